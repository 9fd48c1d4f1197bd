"""A view and its way back: which voxel of the crop, of another view, or of the volume is which."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medssl.views import warp

# A view's warp is undone by iteration; each round at least halves what is left for drawn warps.
_ROUNDS = 20
_FOUND = 0.05  # voxels


@dataclass(frozen=True)
class View:
    """One view of every crop of a batch, and its map back to the crop.

    Attributes:
        image: float32 (B, C, *size).
        theta: float32 (B, d, d + 1), voxel of the view -> voxel of its crop (`view_to_crop`).
        label: (B, 1, *size) of the labels' type; None where no labels were given.
        displacement: what the elastic warp adds to it: control points of a cubic B-spline, in
            voxels of the crop, float32 (B, d, *nodes); None without a warp.
        spacing: mm a voxel of the crop, float32 (B, d); 1 where none was given.
        crop_size: voxels of the crop; empty where it is not known.
    """

    image: Tensor
    theta: Tensor
    label: Tensor | None = None
    displacement: Tensor | None = None
    spacing: Tensor | None = None
    crop_size: tuple[int, ...] = ()

    @property
    def size(self) -> tuple[int, ...]:
        """Voxels of the view."""
        return tuple(self.image.shape[2:])

    def to_crop(self, points: Tensor) -> Tensor:
        """Where points of the view lie in the crop: voxels (B, d, *any) -> voxels, float32."""
        flat = points.flatten(2).to(self.theta.dtype)
        found = affine(self.theta, flat)
        if self.displacement is not None:
            found = found + warp.at(self.displacement, flat, self.size)
        return found.reshape(points.shape)

    def from_crop(self, points: Tensor) -> Tensor:
        """Where points of the crop lie in the view: voxels (B, d, *any) -> voxels, float32.

        A warp is undone by fixed-point iteration: compare `to_crop` of the result with `points`
        where it matters, as `match_cells` does.
        """
        flat = points.flatten(2).to(self.theta.dtype)
        back = torch.linalg.inv(self.theta[:, :, :-1])
        straight = apply(back, flat - self.theta[:, :, -1:])
        found = straight
        if self.displacement is not None:
            for _ in range(_ROUNDS):
                found = straight - apply(back, warp.at(self.displacement, found, self.size))
        return found.reshape(points.shape)


def apply(matrix: Tensor, points: Tensor) -> Tensor:
    """Matrices (B, d, d) times points (B, d, P), in full float32 on any device.

    A matrix product may round to 10 bits on a GPU (TF32), or to 8 under autocast: too few for
    coordinates.
    """
    return (matrix[:, :, :, None] * points[:, None]).sum(2)


def affine(matrix: Tensor, points: Tensor) -> Tensor:
    """Points (B, d, *any) through matrices (B, e, d + 1): (B, e, *any)."""
    found = apply(matrix[:, :, :-1], points.flatten(2)) + matrix[:, :, -1:]
    return found.reshape(*found.shape[:2], *points.shape[2:])


def lattice(size: Sequence[int], cells: Sequence[int], device: torch.device) -> Tensor:
    """Centres of `cells` that divide an image of `size` evenly, in its voxels: (d, *cells)."""
    axes = [
        (torch.arange(count, dtype=torch.float32, device=device) + 0.5) * (length / count) - 0.5
        for length, count in zip(size, cells, strict=True)
    ]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def positions(view: View) -> Tensor:
    """Where every voxel of a view lies in its crop, in voxels: float32 (B, d, *size)."""
    grid = lattice(view.size, view.size, view.theta.device)
    found = affine(view.theta, grid.expand(len(view.theta), *grid.shape))
    if view.displacement is not None:
        found = found + warp.dense(view.displacement, view.size)
    return found


def cell_positions(view: View, grid: Sequence[int]) -> Tensor:
    """Where the centre of every cell of a view lies in its crop, in voxels: float32 (B, d, *grid).

    Args:
        view: of which.
        grid: cells along each axis, as an encoder of stride s makes `size / s` of them.
    """
    centres = lattice(view.size, grid, view.theta.device)
    return view.to_crop(centres.expand(len(view.theta), *centres.shape))


def in_mm(view: View, points: Tensor) -> Tensor:
    """Points of the crop (B, d, *any) from voxels to mm from its first voxel's centre."""
    if view.spacing is None:
        return points
    return points * view.spacing.reshape(*view.spacing.shape, *(1,) * (points.ndim - 2))


def in_volume(view: View, points: Tensor, place: Tensor) -> Tensor:
    """Points of a view in the volume that the crops were cut from.

    Args:
        view: of which.
        points: voxels of the view, (B, d, *any).
        place: where the crops lie: float32 (B, d, d + 1), voxel of the crop -> voxel of the volume,
            or -> mm in the scanner's space, if the volume's affine is multiplied in.
    """
    return affine(place, view.to_crop(points))


@dataclass(frozen=True)
class Match:
    """Cells of one view in another (B crops, P cells of the first view in row-major order).

    Attributes:
        position: the centre of each cell, in voxels of the other view, float32 (B, d, P).
        index: the cell of the other view it falls in, int64 (B, P), row-major; the nearest one
            where there is none.
        valid: bool (B, P): the centre lies in the other view, and in the crop, so that neither
            shows padding there.
    """

    position: Tensor
    index: Tensor
    valid: Tensor


def match_cells(
    view: View, other: View, grid: Sequence[int], other_grid: Sequence[int] | None = None
) -> Match:
    """Which cell of one view is which of another view of the same crops.

    With `grid` the size of the view, cells are voxels. Nothing waits for the device.

    Args:
        view: whose cells are looked for.
        other: where they are looked for.
        grid: cells of `view` along each axis.
        other_grid: cells of `other`; None: the same number.
    """
    wanted = cell_positions(view, grid).flatten(2)
    found, valid = _found(other, wanted)
    cells = tuple(other_grid or grid)
    index = torch.zeros_like(found[:, 0], dtype=torch.int64)
    for axis, (length, count) in enumerate(zip(other.size, cells, strict=True)):
        along = found[:, axis] + 0.5
        index = index * count + (along * (count / length)).floor().clamp(0, count - 1).long()
    return Match(found, index, valid)


def match_points(view: View, other: View, points: Tensor) -> tuple[Tensor, Tensor]:
    """Where points of one view lie in another view of the same crops.

    Args:
        view: whose points they are.
        other: where they are looked for.
        points: voxels of `view`, (B, d, P).

    Returns:
        voxels of `other`, float32 (B, d, P); and bool (B, P), as `Match.valid`.
    """
    return _found(other, view.to_crop(points))


def in_crop(view: View, points: Tensor) -> Tensor:
    """Whether points of the crop, voxels (B, d, P), are no padding: bool (B, P)."""
    inside = torch.ones_like(points[:, 0], dtype=torch.bool)
    for axis, length in enumerate(view.crop_size):
        inside &= (points[:, axis] >= -0.5) & (points[:, axis] <= length - 0.5)
    return inside


def _found(other: View, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Points of the crop in a view, and whether they are there and no padding."""
    found = other.from_crop(wanted)
    valid = in_crop(other, wanted) & ((other.to_crop(found) - wanted).abs().amax(1) < _FOUND)
    for axis, length in enumerate(other.size):
        along = found[:, axis] + 0.5
        valid &= (along >= 0) & (along < length)
    return found, valid


def view_spacing(theta: Tensor, spacing: Tensor) -> Tensor:
    """Mm between neighbouring voxels of a view, float32 (B, d), without its warp.

    Args:
        theta: (B, d, d + 1), from `view_to_crop`.
        spacing: mm a voxel of the crop, (B, d).
    """
    return (theta[:, :, :-1] * spacing[:, :, None]).square().sum(1).sqrt()


def overlap(view: View, other: View, grid: Sequence[int]) -> Tensor:
    """The share of a view that another one shows too, measured on a grid of cells: (B,)."""
    return match_cells(view, other, grid).valid.float().sum(1) / math.prod(grid)
