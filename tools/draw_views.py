"""Draw images under every change of intensity: python tools/draw_views.py OUT.png [DATA]

Of two phantoms, an MR and a CT; with DATA of real scans: `hippocampus/images/*.nii.gz` (MR) and
`dicom/ct_slices/*.dcm` (CT) in that folder. Every change is made by itself and always, twice, at
strengths of its modality's preset.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np
import numpy.typing as npt
import pydicom
import torch
from PIL import Image
from torch import Tensor

from medssl.methods.intensity_config import PRESETS, Modality
from medssl.methods.view_config import ViewConfig
from medssl.phantom import head, torso
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

COPIES = 2
ACROSS = 5
NEUTRAL = {"bias": 0.0, "brightness": 0.0, "noise": 0.0}
Array = npt.NDArray[Any]


def phantoms() -> dict[Modality, list[Array]]:
    """Raw intensities of each modality: MR (1, x, y, z), CT (1, x, y)."""
    mr = [head(seed).image for seed in range(COPIES)]
    ct = [torso(seed, (224, 176, 5), (1.7, 1.7, 5.0)).image[..., 2] for seed in range(COPIES)]
    return {"MR": mr, "CT": ct}


def scans(folder: Path) -> dict[Modality, list[Array]]:
    """The same of real scans."""
    paths = sorted((folder / "hippocampus" / "images").glob("*.nii.gz"))
    arrays = (np.asarray(nib.load(path).dataobj)[None] for path in paths)
    large = [a for a in arrays if min(a.shape[1:]) >= 32 and a.shape[2] >= 48]
    volumes = [a[:, :32, :48, :32] for a in large[:: len(large) // COPIES][:COPIES]]
    slices = []
    for path in sorted((folder / "dicom" / "ct_slices").glob("*.dcm"))[:: 26 // COPIES][:COPIES]:
        dataset = pydicom.dcmread(path)
        hu = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
        slices.append(hu[None, ::2, ::2].transpose(0, 2, 1)[:, :, ::-1])
    return {"MR": volumes, "CT": slices}


def normalised(modality: Modality, arrays: list[Array]) -> Tensor:
    """As a network is fed: float32 (B, 1, *spatial)."""
    contract = IntensityContract.for_modality(modality)
    crops = [contract.normalise(array, statistics(array)) for array in arrays]
    return torch.from_numpy(np.stack(crops))


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


def shown_slice(image: Tensor) -> Array:
    """What is shown of (1, *spatial): rows and columns, upright."""
    plane = image[0] if image.ndim == 3 else image[0, :, :, image.shape[3] // 2]
    return plane.T.flip(0).numpy()


def draw(arrays: dict[Modality, list[Array]], out: Path) -> None:
    """Write the figure: a row of panels for each few changes, MR first."""
    panels: list[tuple[str, Modality, Tensor] | None] = []
    for modality, raw in arrays.items():
        made = changed(normalised(modality, raw), modality)
        panels += [(f"{modality}: {name}", modality, images) for name, images in made.items()]
        panels += [None] * (-len(panels) % ACROSS)
    down, columns = len(panels) // ACROSS, ACROSS * COPIES
    figure, axes = plt.subplots(down, columns, figsize=(columns * 1.1, down * 1.3), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for number, panel in enumerate(panels):
        if panel is None:
            continue
        name, modality, images = panel
        line, column = divmod(number, ACROSS)
        low, high = (-1.0, 1.0) if modality == "CT" else (-2.5, 2.5)
        for copy in range(COPIES):
            axis = axes[line, column * COPIES + copy]
            plane = shown_slice(images[copy])
            axis.imshow(plane, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        axes[line, column * COPIES].set_title(name.replace("_", " "), fontsize=8, loc="left")
    figure.tight_layout(pad=0.3)
    figure.savefig(out, dpi=100)
    with Image.open(out) as picture:
        grey = picture.convert("L").quantize(64)
    grey.save(out, optimize=True)


if __name__ == "__main__":
    draw(scans(Path(sys.argv[2])) if len(sys.argv) > 2 else phantoms(), Path(sys.argv[1]))
