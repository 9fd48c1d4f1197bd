"""Spatial augmentation: every change of place composed into one resampling of the batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from medssl.views.draw import Draw

Padding = Literal["zeros", "border", "reflection"]


@dataclass(frozen=True)
class SpatialSettings:
    """How far a view may differ in place from its crop. The defaults change nothing.

    Attributes:
        rotation: largest angle in degrees, about each axis in 3D and in the plane in 2D.
        scale: smallest and largest magnification, drawn evenly in its logarithm.
        scale_each_axis: magnify every axis by its own factor.
        probability: of a rotation and, independently, of a magnification.
        flip_axes: spatial axes that are mirrored in half of the views.
        translation: largest shift as a fraction of the crop's side.
        crop_scale: smallest and largest fraction of the crop's volume (area in 2D) that fills the
            view, at a random place, as in Inception crops (Szegedy et al. 2015); None keeps the
            crop's voxel size.
        aspect: with crop_scale, largest ratio by which an axis is stretched.
        random_position: a view smaller than the crop lies anywhere in it, not in its middle.
        padding: what lies outside the crop: "border" repeats the edge, "zeros", "reflection".
    """

    rotation: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    scale_each_axis: bool = False
    probability: float = 1.0
    flip_axes: tuple[int, ...] = ()
    translation: float = 0.0
    crop_scale: tuple[float, float] | None = None
    aspect: float = 1.0
    random_position: bool = False
    padding: Padding = "border"


@dataclass(frozen=True)
class SpatialParams:
    """What was drawn for a batch of B views with d axes.

    Attributes:
        angles: radians, float32 (B, 1) in 2D, (B, 3) in 3D (about the first, second, third axis).
        scale: magnification, float32 (B, d).
        flip: bool (B, d).
        extent: side of the view over side of the crop, float32 (B, d); None keeps the voxel size.
        position: float32 (B, d) in [-1, 1]: from one end of the free room to the other.
        shift: fraction of the crop's side, float32 (B, d).
    """

    angles: Tensor
    scale: Tensor
    flip: Tensor
    extent: Tensor | None
    position: Tensor
    shift: Tensor

    @classmethod
    def draw(cls, draw: Draw, dims: int, settings: SpatialSettings) -> SpatialParams:
        """Draws for every sample of `draw`; each part has its own stream.

        Raises:
            ValueError: a flip axis does not exist, or dims is neither 2 nor 3.
        """
        if dims not in (2, 3) or any(axis not in range(dims) for axis in settings.flip_axes):
            raise ValueError(
                f"images of {dims} axes cannot be flipped along axes {settings.flip_axes}"
            )
        turns = 1 if dims == 2 else 3
        limit = math.radians(settings.rotation)
        turned = draw.fork(0).bernoulli(settings.probability, 1)
        angles = draw.fork(1).uniform(-limit, limit, turns) * turned
        low, high = (math.log(value) for value in settings.scale)
        scaled = draw.fork(2).bernoulli(settings.probability, 1)
        factors = draw.fork(3).uniform(low, high, dims if settings.scale_each_axis else 1)
        axes = torch.zeros(dims, dtype=torch.bool)
        axes[list(settings.flip_axes)] = True
        flip = draw.fork(4).bernoulli(0.5, dims) & axes.to(draw.keys.device)
        position = draw.fork(7).uniform(-1.0, 1.0, dims)
        if settings.crop_scale is None and not settings.random_position:
            position = torch.zeros_like(position)
        far = settings.translation
        return cls(
            angles=angles,
            scale=(factors * scaled).exp().expand(-1, dims),
            flip=flip,
            extent=cls._extent(draw, dims, settings),
            position=position,
            shift=draw.fork(8).uniform(-far, far, dims),
        )

    @staticmethod
    def _extent(draw: Draw, dims: int, settings: SpatialSettings) -> Tensor | None:
        if settings.crop_scale is None:
            return None
        side = draw.fork(5).uniform(*settings.crop_scale, 1) ** (1.0 / dims)
        stretch = math.log(settings.aspect) / 2
        return (side * draw.fork(6).uniform(-stretch, stretch, dims).exp()).clamp(max=1.0)


def _rotations(angles: Tensor, dims: int) -> Tensor:
    """Rotation matrices (B, d, d); a positive angle turns the first named axis to the second."""
    planes = [(0, 1)] if dims == 2 else [(1, 2), (2, 0), (0, 1)]
    rotation = torch.eye(dims, device=angles.device).expand(len(angles), dims, dims)
    for number, (first, second) in enumerate(planes):
        cosine, sine = angles[:, number].cos(), angles[:, number].sin()
        step = torch.eye(dims, device=angles.device).repeat(len(angles), 1, 1)
        step[:, first, first] = step[:, second, second] = cosine
        step[:, first, second], step[:, second, first] = -sine, sine
        rotation = step @ rotation
    return rotation


def view_to_crop(
    params: SpatialParams,
    crop_size: Sequence[int],
    size: Sequence[int],
    spacing: Tensor | Sequence[float] | None = None,
) -> Tensor:
    """Where each voxel of the view lies in the crop.

    Args:
        params: drawn for the batch.
        crop_size: voxels of the crop along each axis.
        size: voxels of the view along each axis.
        spacing: of the crop's voxels in mm, (d,) or (B, d); rotations are rigid in mm. None: equal.

    Returns:
        float32 (B, d, d + 1): voxel of the crop = [:, :, :d] @ voxel of the view + [:, :, d], both
        in the order of the array's axes, voxel centres at whole numbers.
    """
    device, dims = params.scale.device, len(crop_size)
    crop = torch.tensor(crop_size, dtype=torch.float32).to(device, non_blocking=True)
    view = torch.tensor(size, dtype=torch.float32).to(device, non_blocking=True)
    mm = torch.ones(dims) if spacing is None else torch.as_tensor(spacing, dtype=torch.float32)
    mm = mm.to(device).expand(len(params.scale), dims)
    zoom = torch.ones_like(params.scale)
    if params.extent is not None:
        zoom = params.extent * crop / view
    mirror = 1.0 - 2.0 * params.flip
    rotation = _rotations(params.angles, dims) * (mm[:, None, :] / mm[:, :, None])
    linear = rotation * (zoom / params.scale * mirror)[:, None, :]
    room = (crop - zoom / params.scale * view).clamp(min=0) / 2
    centre = (crop - 1) / 2 + params.position * room + params.shift * crop
    offset = centre - (linear @ ((view - 1) / 2)[:, None])[..., 0]
    return torch.cat((linear, offset[..., None]), dim=2)


def resample(
    batch: Tensor,
    matrix: Tensor,
    size: Sequence[int],
    mode: Literal["linear", "nearest"] = "linear",
    padding: Padding = "border",
) -> Tensor:
    """Reads a view of `size` from every crop, in one pass.

    Args:
        batch: (B, C, *crop), any type. Label maps keep their type under "nearest".
        matrix: (B, d, d + 1), from `view_to_crop`.
        size: voxels of the view.
        mode: "linear" or "nearest".
        padding: what lies outside the crop.

    Returns:
        (B, C, *size): float32 under "linear", the type of `batch` under "nearest".
    """
    crop = torch.tensor(batch.shape[2:], dtype=torch.float32).to(matrix.device, non_blocking=True)
    view = torch.tensor(size, dtype=torch.float32).to(matrix.device, non_blocking=True)
    linear = matrix[:, :, :-1]
    # The same map between coordinates that run from -1 to 1 over an image, last axis first.
    offset = matrix[:, :, -1:] + linear @ ((view - 1) / 2)[:, None] - ((crop - 1) / 2)[:, None]
    theta = torch.cat((linear * view, offset * 2), dim=2) / crop[:, None]
    dims = len(size)
    order = torch.tensor([*range(dims - 1, -1, -1), dims]).to(matrix.device, non_blocking=True)
    theta = theta.flip(1).index_select(2, order)
    grid = F.affine_grid(theta, [len(batch), 1, *size], align_corners=False)
    read = "bilinear" if mode == "linear" else "nearest"
    sampled = F.grid_sample(batch.float(), grid, read, padding, align_corners=False)
    return sampled if mode == "linear" else sampled.to(batch.dtype)
