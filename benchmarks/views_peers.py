"""The changes of benchmarks/views.py as other libraries make them; see what differs in each.

Every function takes a case and gives a callable: crops (B, 1, *crop) -> batches of views, n B of
(1, *size) in all.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Maker = Callable[[Tensor], list[Tensor]]

CROP_SHARE, DEGREES, SCALE = (0.4, 1.0), 15.0, (0.9, 1.1)
CHANCE = 0.3  # of each change of intensity
GAMMA, CONTRAST, BRIGHTNESS, NOISE = (0.7, 1.5), (0.75, 1.25), 0.2, 0.1
BLUR, COARSER = (0.5, 1.0), (1.0, 2.0)
STEPS = 6  # changes of intensity


@dataclass(frozen=True)
class Case:
    """What is made: `count` views of `size` from each of `batch` crops of `crop`."""

    crop: tuple[int, ...]
    size: tuple[int, ...]
    count: int
    batch: int

    @property
    def dims(self) -> int:
        """Spatial axes."""
        return len(self.size)

    @property
    def sides(self) -> tuple[int, int]:
        """Smallest and largest side of the cube that is cropped, in voxels."""
        low, high = (round(self.crop[0] * share ** (1 / self.dims)) for share in CROP_SHARE)
        return low, high


def one_by_one(case: Case, change: Callable[[Tensor], Any]) -> Maker:
    """Libraries that change one sample (1, *crop) at a time."""

    def made(crops: Tensor) -> list[Tensor]:
        return [
            torch.stack([torch.as_tensor(change(crop)) for crop in crops])
            for _ in range(case.count)
        ]

    return made


def random_cube(case: Case, crop: Tensor) -> Tensor:
    """A cube of random side at a random place: a view of the memory, which costs nothing."""
    low, high = case.sides
    side = np.random.randint(low, high + 1)
    starts = [np.random.randint(0, whole - side + 1) for whole in case.crop]
    return crop[(slice(None), *(slice(start, start + side) for start in starts))]


def monai(case: Case, lazy: bool = False) -> Maker:
    """MONAI's dictionary transforms: the same changes. Eager, it resamples twice."""
    t, turn = importlib.import_module("monai.transforms"), np.deg2rad(DEGREES)
    low, high = case.sides
    spread = [(SCALE[0] - 1, SCALE[1] - 1)] * case.dims
    mode = "trilinear" if case.dims == 3 else "bilinear"
    place = [
        t.RandSpatialCropd("x", (low,) * case.dims, (high,) * case.dims, random_size=True),
        t.Resized("x", case.size, mode="bilinear" if lazy else mode),
        *(t.RandFlipd("x", 0.5, axis) for axis in range(case.dims)),
        t.RandAffined(
            "x", case.size, 1.0, rotate_range=[turn] * (3 if case.dims == 3 else 1),
            scale_range=spread, padding_mode="border",
        ),
    ]  # fmt: skip
    intensity = [
        t.RandGaussianSmoothd("x", BLUR, BLUR, BLUR, prob=CHANCE),
        t.RandSimulateLowResolutiond(
            "x", CHANCE, upsample_mode=mode, zoom_range=(1 / COARSER[1], 1 / COARSER[0])
        ),
        t.RandScaleIntensityFixedMeand("x", (CONTRAST[0] - 1, CONTRAST[1] - 1), prob=CHANCE),
        t.RandStdShiftIntensityd("x", BRIGHTNESS, CHANCE),
        t.RandAdjustContrastd("x", CHANCE, GAMMA),
        t.RandGaussianNoised("x", CHANCE, std=NOISE),
    ]
    both = t.Compose([*place, *intensity], lazy=lazy)
    both.set_random_state(0)
    return one_by_one(case, lambda crop: both({"x": crop})["x"].as_tensor())


def monai_lazy(case: Case) -> Maker:
    """The same composed into one resampling, as MONAI does on demand, in 3D."""
    if case.dims == 2:
        raise LookupError("fails: a 2D affine does not compose with a crop (MONAI 1.6.1)")
    return monai(case, lazy=True)


def torchio(case: Case) -> Maker:
    """TorchIO, in 3D: contrast and brightness, which it lacks, left out; crop by slicing."""
    if case.dims == 2:
        raise LookupError("3D only")
    t = importlib.import_module("torchio")
    change = t.Compose(
        [
            t.Resize(case.size),
            t.RandomFlip(tuple(range(case.dims)), flip_probability=0.5),
            t.RandomAffine(SCALE, DEGREES, isotropic=True, default_pad_value="mean"),
            t.RandomBlur(BLUR, p=CHANCE),
            t.RandomAnisotropy(downsampling=COARSER, p=CHANCE),
            t.RandomGamma(tuple(float(np.log(g)) for g in GAMMA), p=CHANCE),
            t.RandomNoise(std=(0, NOISE), p=CHANCE),
        ]
    )
    return one_by_one(case, lambda crop: change(random_cube(case, crop).contiguous()))


def batchgenerators(case: Case) -> Maker:
    """batchgeneratorsv2, nnU-Net's: one resampling, crop and scale together as its scaling."""
    room = "batchgeneratorsv2.transforms"

    def named(place: str, name: str) -> Any:
        return getattr(importlib.import_module(f"{room}.{place}"), name)

    some, turn = named("utils.random", "RandomTransform"), np.deg2rad(DEGREES)
    low, high = (side / case.size[0] for side in case.sides)
    zoom = (low / SCALE[1], high / SCALE[0])
    place = named("spatial.spatial", "SpatialTransform")(
        case.size, [side // 2 for side in case.size], random_crop=True, p_rotation=1.0,
        rotation=(-turn, turn), p_scaling=1.0, scaling=zoom,
        p_synchronize_scaling_across_axes=1.0, padding_mode_image="border",
    )  # fmt: skip
    contrast = named("intensity.contrast", "ContrastTransform")
    coarser = (1 / COARSER[1], 1 / COARSER[0])
    intensity = [
        named("noise.gaussian_blur", "GaussianBlurTransform")(BLUR, True, True),
        named("spatial.low_resolution", "SimulateLowResolutionTransform")(
            coarser, True, True, None
        ),
        contrast(CONTRAST, False, True),
        named("intensity.brightness", "BrightnessAdditiveTransform")(0.0, BRIGHTNESS),
        named("intensity.gamma", "GammaTransform")(GAMMA, 0.0, True, 1.0, 0.0),
        named("intensity.gaussian_noise", "GaussianNoiseTransform")((0, NOISE**2)),
    ]
    mirror = named("spatial.mirroring", "MirrorTransform")(tuple(range(case.dims)))
    steps = [place, mirror, *(some(step, CHANCE) for step in intensity)]
    compose = named("utils.compose", "ComposeTransforms")(steps)
    return one_by_one(case, lambda crop: compose(image=crop.clone())["image"])


def kornia(case: Case) -> Maker:
    """Kornia, in 2D, in batches: no low resolution; values in [0, 1], which its gamma asks for."""
    if case.dims == 3:
        raise LookupError("2D only")
    k = importlib.import_module("kornia.augmentation")
    change = torch.nn.Sequential(
        k.RandomResizedCrop(case.size, CROP_SHARE, (1.0, 1.0)),
        k.RandomHorizontalFlip(),
        k.RandomVerticalFlip(),
        k.RandomAffine(DEGREES, scale=SCALE, padding_mode="border", p=1.0),
        k.RandomGaussianBlur((7, 7), BLUR, p=CHANCE),
        k.RandomContrast(CONTRAST, p=CHANCE),
        k.RandomBrightness((1 - BRIGHTNESS, 1 + BRIGHTNESS), p=CHANCE),
        k.RandomGamma(GAMMA, p=CHANCE),
        k.RandomGaussianNoise(0.0, NOISE, p=CHANCE),
    )
    return lambda crops: [change(crops) for _ in range(case.count)]


def bare(case: Case, passes: int = 0) -> Maker:
    """One affine_grid and one grid_sample of a batch of crops repeated for its views."""
    turn = np.deg2rad(DEGREES / 2)
    theta = torch.eye(case.dims, case.dims + 1) * 0.85
    theta[0, :2] = torch.tensor([np.cos(turn), -np.sin(turn)]) * 0.85
    theta[1, :2] = torch.tensor([np.sin(turn), np.cos(turn)]) * 0.85

    def made(crops: Tensor) -> list[Tensor]:
        total = case.count * len(crops)
        grid = F.affine_grid(
            theta.to(crops.device).expand(total, -1, -1), [total, 1, *case.size], False
        )
        repeated = crops.repeat(case.count, *(1,) * (case.dims + 1))
        views = F.grid_sample(repeated, grid, "bilinear", "border", False)
        for _ in range(passes):
            views = views * 1.01 + 0.01
        return [views]

    return made


def bare_and_passes(case: Case) -> Maker:
    """That, and one multiplication and addition of every voxel for each change of intensity."""
    return bare(case, STEPS)


PEERS: dict[str, Callable[[Case], Maker]] = {
    "bare grid_sample": bare,
    "grid_sample and 6 passes": bare_and_passes,
    "batchgeneratorsv2": batchgenerators,
    "kornia": kornia,
    "MONAI lazy": monai_lazy,
    "MONAI": monai,
    "TorchIO": torchio,
}
MODULES = {
    "batchgeneratorsv2": "batchgeneratorsv2",
    "kornia": "kornia",
    "MONAI lazy": "monai",
    "MONAI": "monai",
    "TorchIO": "torchio",
}


def peer(name: str, case: Case) -> Maker | str:
    """What makes the views, or why it cannot."""
    warnings.simplefilter("ignore")
    if name in MODULES and importlib.util.find_spec(MODULES[name]) is None:
        return "not installed"
    try:
        return PEERS[name](case)
    except LookupError as why:
        return str(why)
