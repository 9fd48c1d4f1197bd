"""Draw one image under every change of intensity: python tools/draw_views.py DATA OUT.png

DATA holds `hippocampus/images/*.nii.gz` (MR) and `dicom/ct_slices/*.dcm` (CT). Every change is
drawn at its preset's range for that modality, three times, by itself and always.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np
import pydicom
import torch
from torch import Tensor

from medssl.methods.base import ViewConfig
from medssl.methods.intensity_config import PRESETS, Modality
from medssl.store.intensity import IntensityContract, statistics
from medssl.views import (
    Draw,
    IntensityParams,
    block_mask,
    corrupt,
    inverse_block_mask,
    random_mask,
    sample_key,
    upsample_mask,
)
from medssl.views.intensity import KINDS

COPIES = 3
NEUTRAL = {"bias": 0.0, "brightness": 0.0, "noise": 0.0}


def mr(folder: Path) -> Tensor:
    """Normalised crops of three scans: float32 (3, 1, 32, 48, 32)."""
    crops = []
    for path in sorted((folder / "hippocampus" / "images").glob("*.nii.gz")):
        array = np.asarray(nib.load(path).dataobj)[None]
        if all(n >= m for n, m in zip(array.shape[1:], (32, 48, 32), strict=True)):
            contract = IntensityContract.for_modality("MR")
            crop = contract.normalise(array, statistics(array))[:, :32, :48, :32]
            crops.append(torch.from_numpy(np.ascontiguousarray(crop)))
        if len(crops) == COPIES:
            break
    return torch.stack(crops)


def ct(folder: Path) -> Tensor:
    """Normalised slices of three studies: float32 (3, 1, 256, 256)."""
    slices = []
    for path in sorted((folder / "dicom" / "ct_slices").glob("*.dcm"))[:COPIES]:
        dataset = pydicom.dcmread(path)
        hu = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
        array = IntensityContract.for_modality("CT").normalise(hu[None, ::2, ::2], {})
        slices.append(torch.from_numpy(array))
    return torch.stack(slices)


def changed(batch: Tensor, modality: Modality) -> dict[str, Tensor]:
    """Name of the change -> the batch under it."""
    draw = Draw(torch.tensor([sample_key(0, 0, index) for index in range(len(batch))]))
    shown = {"as it is": batch}
    preset = {k: v for k, v in PRESETS[modality].items() if k != "probabilities"}
    preset |= {"style": "sample"}
    for kind in KINDS:
        if kind in preset:
            others = {k: NEUTRAL.get(k) for k in KINDS if k in preset and k != kind}
            config = ViewConfig(**{**preset, **others, "probability": 1.0})
            shown[kind] = IntensityParams.draw(draw, config.intensity_settings()).apply(batch)
    config = ViewConfig(modality=modality)
    shown["preset"] = IntensityParams.draw(draw, config.intensity_settings()).apply(batch)
    size = tuple(batch.shape[2:])
    grid = tuple(n // (4 if len(size) == 3 else 16) for n in size)
    masks = {
        "random mask": random_mask(draw.fork(99), grid, 0.6),
        "block mask": block_mask(draw.fork(99), grid, 0.4),
        "inverse block": inverse_block_mask(draw.fork(99), grid, 0.7, roll=True),
    }
    for name, mask in masks.items():
        shown[name] = batch.masked_fill(upsample_mask(mask, size), float(batch.min()))
    few = block_mask(draw.fork(98), grid, 0.3, blocks=4)
    shown["corrupted"] = corrupt(batch, upsample_mask(few, size), draw.fork(97))
    return shown


def slices(batch: Tensor) -> Tensor:
    """What is shown of each image: (B, rows, columns), upright."""
    image = batch[:, 0]
    return image if image.ndim == 3 else image[:, image.shape[1] // 2].transpose(1, 2).flip(1)


def draw(folder: Path, out: Path) -> None:
    """Write the figure."""
    rows = [
        (modality, name, slices(images))
        for modality, batch in (("MR", mr(folder)), ("CT", ct(folder)))
        for name, images in changed(batch, modality).items()  # type: ignore[arg-type]
    ]
    across = 4
    down = -(-len(rows) // across)
    figure, axes = plt.subplots(
        down, across * COPIES, figsize=(across * COPIES * 1.15, down * 1.35), squeeze=False
    )
    for axis in axes.flat:
        axis.axis("off")
    for number, (modality, name, images) in enumerate(rows):
        line, column = divmod(number, across)
        low, high = (-1.0, 1.0) if modality == "CT" else (-2.0, 2.5)
        for copy in range(COPIES):
            axis = axes[line, column * COPIES + copy]
            axis.imshow(images[copy].numpy(), cmap="gray", vmin=low, vmax=high)
        title = f"{modality}: {name.replace('_', ' ')}"
        axes[line, column * COPIES].set_title(title, fontsize=8, loc="left")
    figure.tight_layout(pad=0.3)
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
