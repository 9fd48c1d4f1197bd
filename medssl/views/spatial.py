"""Spatial augmentation: what may change of place, what was drawn, and the map it amounts to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from medssl.views import warp
from medssl.views.draw import Draw
from medssl.views.view import apply, view_spacing

Padding = Literal["zeros", "border", "reflection"]

_STREAMS = 12  # parts of place that are drawn, each with its own numbers


@dataclass(frozen=True)
class SpatialSettings:
    """How far a view may differ in place from its crop. The defaults change nothing.

    Attributes:
        rotation: largest angle in degrees, about each axis in 3D and in the plane in 2D.
        scale: smallest and largest magnification, drawn evenly in its logarithm.
        scale_each_axis: magnify every axis by its own factor.
        shear: largest angle in degrees by which axes lean towards each other, in mm.
        elastic: largest displacement in mm along each axis of a smooth random warp, a cubic
            B-spline; held to 0.4 cells, so that it never folds.
        elastic_cells: cells of that spline along each axis of the view: more is finer.
        probability: of a rotation, a magnification, a shear and a warp, each independently.
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
    shear: float = 0.0
    elastic: float = 0.0
    elastic_cells: int = 4
    probability: float = 1.0
    flip_axes: tuple[int, ...] = ()
    translation: float = 0.0
    crop_scale: tuple[float, float] | None = None
    aspect: float = 1.0
    random_position: bool = False
    padding: Padding = "border"

    @property
    def on_grid(self) -> bool:
        """Whether every voxel of a view is one of its crop: it is copied then, not interpolated."""
        resized = self.crop_scale is not None
        moved = self.rotation or self.shear or self.elastic or tuple(self.scale) != (1.0, 1.0)
        return not resized and (self.probability == 0 or not moved)


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
        shear: tangents, float32 (B, d (d - 1) / 2): how far the first axis leans for every later
            one, then the second; None for none.
        elastic: displacement of control points in mm, float32 (B, d, *nodes); None for none.
        on_grid: voxels of the view are voxels of the crop: places are rounded to whole ones.
    """

    angles: Tensor
    scale: Tensor
    flip: Tensor
    extent: Tensor | None
    position: Tensor
    shift: Tensor
    shear: Tensor | None = None
    elastic: Tensor | None = None
    on_grid: bool = False

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
        numbers = _Numbers(draw, settings)
        still = torch.zeros(len(draw.keys), dims, device=draw.keys.device)
        angles = still[:, :1] if dims == 2 else still
        if settings.rotation:
            turn = math.radians(settings.rotation)
            angles = numbers.picked(0, numbers.even(1, -turn, turn)[:, : angles.shape[1]])
        low, high = (math.log(value) for value in settings.scale)
        factors = still
        if (low, high) != (0.0, 0.0):
            ranged = numbers.even(3, low, high)[:, : dims if settings.scale_each_axis else 1]
            factors = numbers.picked(2, ranged).expand(-1, dims)
        flip = torch.zeros_like(still, dtype=torch.bool)
        if settings.flip_axes:
            coins = numbers.unit(4) < 0.5
            for axis in set(settings.flip_axes):
                flip[:, axis] = coins[:, axis]
        anywhere = settings.crop_scale is not None or settings.random_position
        far, shear, elastic = settings.translation, None, None
        if settings.shear:
            slope = math.tan(math.radians(settings.shear))
            shear = numbers.picked(9, numbers.even(10, -slope, slope)[:, : len(_pairs(dims))])
        if settings.elastic:
            nodes = (settings.elastic_cells + warp.MARGIN,) * dims
            drawn = draw.fork(12).uniform(-settings.elastic, settings.elastic, dims, *nodes)
            elastic = numbers.picked(11, drawn)
        return cls(
            angles=angles,
            scale=factors.exp(),
            flip=flip,
            extent=numbers.extent(dims),
            position=numbers.even(7, -1.0, 1.0)[:, :dims] if anywhere else still,
            shift=numbers.even(8, -far, far)[:, :dims] if far else still,
            shear=shear,
            elastic=elastic,
            on_grid=settings.on_grid,
        )


class _Numbers:
    """Numbers in [0, 1) of every part of place, each from its own stream, in one draw."""

    def __init__(self, draw: Draw, settings: SpatialSettings) -> None:
        self._settings = settings
        self._units = draw.table(range(_STREAMS), 3)

    def unit(self, stream: int) -> Tensor:
        """Float32 (B, 3)."""
        return self._units[:, stream]

    def even(self, stream: int, low: float, high: float) -> Tensor:
        """Evenly from [low, high): float32 (B, 3)."""
        return low + (high - low) * self.unit(stream)

    def picked(self, stream: int, drawn: Tensor) -> Tensor:
        """What was drawn, 0 for the samples that are not to have it."""
        if self._settings.probability == 1:
            return drawn
        chosen = self.unit(stream)[:, 0] < self._settings.probability
        return drawn * chosen.reshape(-1, *(1,) * (drawn.ndim - 1))

    def extent(self, dims: int) -> Tensor | None:
        """Sides of the view over those of the crop: float32 (B, d)."""
        if self._settings.crop_scale is None:
            return None
        side = self.even(5, *self._settings.crop_scale)[:, :1] ** (1.0 / dims)
        stretch = math.log(self._settings.aspect) / 2
        return (side * self.even(6, -stretch, stretch)[:, :dims].exp()).clamp(max=1.0)


def _rotations(angles: Tensor, dims: int) -> Tensor:
    """Rotation matrices (B, d, d); a positive angle turns the first named axis to the second."""
    cosine, sine = angles.cos().unbind(1), angles.sin().unbind(1)
    if dims == 2:
        (c,), (s,) = cosine, sine
        return torch.stack((c, -s, s, c), dim=1).reshape(-1, 2, 2)
    (ca, cb, cc), (sa, sb, sc) = cosine, sine
    # About the first axis, then the second, then the third, multiplied out.
    rows = (
        cc * cb, cc * sb * sa - sc * ca, cc * sb * ca + sc * sa,
        sc * cb, sc * sb * sa + cc * ca, sc * sb * ca - cc * sa,
        -sb, cb * sa, cb * ca,
    )  # fmt: skip
    return torch.stack(rows, dim=1).reshape(-1, 3, 3)


def _pairs(dims: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(dims) for j in range(i + 1, dims)]


def _shears(slopes: Tensor, dims: int) -> Tensor:
    """Upper triangular matrices (B, d, d) of determinant 1."""
    matrix = torch.eye(dims, device=slopes.device).repeat(len(slopes), 1, 1)
    for number, (i, j) in enumerate(_pairs(dims)):
        matrix[:, i, j] = slopes[:, number]
    return matrix


def view_to_crop(
    params: SpatialParams,
    crop_size: Sequence[int],
    size: Sequence[int],
    spacing: Tensor | Sequence[float] | None = None,
    centre: Tensor | None = None,
) -> Tensor:
    """Where each voxel of the view lies in the crop, before an elastic warp.

    Args:
        params: drawn for the batch.
        crop_size: voxels of the crop along each axis.
        size: voxels of the view along each axis.
        spacing: of the crop's voxels in mm, (d,) or (B, d); rotations are rigid in mm. None: equal.
        centre: where the middle of the view lies, in voxels of the crop, float32 (B, d), whatever
            position and shift were drawn; None: there.

    Returns:
        float32 (B, d, d + 1): voxel of the crop = [:, :, :d] @ voxel of the view + [:, :, d], both
        in the order of the array's axes, voxel centres at whole numbers.
    """
    device, dims = params.scale.device, len(crop_size)
    crop = torch.tensor(crop_size, dtype=torch.float32).to(device, non_blocking=True)
    view = torch.tensor(size, dtype=torch.float32).to(device, non_blocking=True)
    mm = torch.ones(dims) if spacing is None else torch.as_tensor(spacing, dtype=torch.float32)
    mm = mm.to(device).expand(len(params.scale), dims)
    zoom = 1.0 / params.scale
    if params.extent is not None:
        zoom = zoom * params.extent * crop / view
    turn = _rotations(params.angles, dims)
    if params.shear is not None:
        turn = apply(turn, _shears(params.shear, dims))
    linear = turn * (mm[:, None, :] / mm[:, :, None])
    linear = linear * (zoom * (1.0 - 2.0 * params.flip))[:, None, :]
    if centre is None:
        room = (crop - zoom * view).clamp(min=0) / 2
        centre = (crop - 1) / 2 + params.position * room + params.shift * crop
    offset = centre - (linear * ((view - 1) / 2)).sum(2)
    if params.on_grid:
        offset = offset.round()
    return torch.cat((linear, offset[..., None]), dim=2)


def displacement(
    params: SpatialParams,
    theta: Tensor,
    size: Sequence[int],
    spacing: Tensor | Sequence[float] | None = None,
) -> Tensor | None:
    """The elastic warp in voxels of the crop, added to where `theta` leads.

    Args:
        params: drawn for the batch.
        theta: float32 (B, d, d + 1), of `view_to_crop` for the same sizes and spacing.
        size: voxels of the view.
        spacing: of the crop's voxels in mm, (d,) or (B, d).

    Returns:
        control points float32 (B, d, *nodes) (`medssl.views.warp`), None without a warp.
    """
    if params.elastic is None:
        return None
    dims = len(size)
    mm = torch.ones(dims) if spacing is None else torch.as_tensor(spacing, dtype=torch.float32)
    mm = view_spacing(theta, mm.to(theta.device).expand(len(theta), dims))
    cells = params.elastic.shape[2] - warp.MARGIN
    view = torch.tensor(size, dtype=torch.float32).to(theta.device, non_blocking=True)
    far = (view * (warp.LARGEST / cells))[:, None]
    # In voxels of the view, along its axes, where the bound that keeps it from folding holds.
    moved = (params.elastic.flatten(2) / mm[:, :, None]).clamp(-far, far)
    return apply(theta[:, :, :-1], moved).reshape(params.elastic.shape)
