"""What tests of whole runs share: a scan to give them, and what they read of the results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

LPS = np.array([[-1.0, 0, 0, 8], [0, -1.5, 0, 12], [0, 0, 2.0, -9], [0, 0, 0, 1.0]])


def save_nifti(path: Path, affine: np.ndarray = LPS, seed: int = 0) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.random.default_rng(seed).integers(0, 200, (18, 10, 7)).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, affine), path)
    return voxels


def read_json(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
