"""What ingest passes around: a job per volume (or per archive), and what it makes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.store import VolumeRecord

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Rejection:
    """Files that were refused together, and why. ``detail`` holds no identifiers."""

    files: list[Path]
    code: str
    detail: str


@dataclass(frozen=True)
class Made:
    """One volume, ready to be written.

    Attributes:
        record: its pseudonyms and labels.
        array: (channel, x, y, z) with ``affine``, or (channel, row, column) without.
        affine: 4x4, voxel to RAS mm; None for 2D.
        content: what is the same for the same image under another name.
        label: label map on the same grid, channel first, or None.
        pixel_spacing: of a 2D image, mm between rows and between columns; None where unknown.
    """

    record: VolumeRecord
    array: Array
    affine: Array | None
    content: str
    label: Array | None = None
    pixel_spacing: tuple[float, float] | None = None


@dataclass(frozen=True)
class Job:
    """Work on some files that belong together.

    Attributes:
        files: what the volume is made of.
        duplicates: files that say the same again.
        make: reads them; raises MedsslError for what it refuses.
        isolated: read in a process of its own.
    """

    files: list[Path]
    make: Callable[[], Iterable[Made]]
    duplicates: list[Path] = field(default_factory=list)
    isolated: bool = False


def content_hash(array: Array, affine: Array | None) -> str:
    """SHA-256 over values, shape and affine; the same for the same values in any dtype."""
    digest = hashlib.sha256(str(array.shape).encode())
    whole = np.issubdtype(array.dtype, np.integer) or np.array_equal(array, np.rint(array))
    digest.update(np.asarray(array, dtype="<i8" if whole else "<f8").tobytes())
    if affine is not None:
        # Affines are known to float32 in NIfTI; rounded so that the same place hashes the same.
        digest.update(np.asarray(np.round(affine, 3) + 0.0, dtype="<f8").tobytes())
    return digest.hexdigest()
