"""Cells of views as places in the crop, in mm: which of two views' cells are neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medssl.views.view import View, cell_positions, in_mm, view_spacing


@dataclass(frozen=True)
class Cells:
    """The cells of a view (B crops, P cells in row-major order).

    Attributes:
        position: of their centres, in mm from the centre of the crop's first voxel: float32
            (B, d, P).
        inside: bool (B, P): the centre lies in the crop, so that it does not show padding.
        diagonal: mm, float32 (B,); without the view's warp. A shear makes diagonals differ: the
            root mean square of them.
    """

    position: Tensor
    inside: Tensor
    diagonal: Tensor


def cells(view: View, grid: Sequence[int]) -> Cells:
    """The cells that divide a view evenly.

    Args:
        view: of which.
        grid: cells along each axis.
    """
    voxels = cell_positions(view, grid).flatten(2)
    inside = torch.ones_like(voxels[:, 0], dtype=torch.bool)
    for axis, length in enumerate(view.crop_size):
        inside &= (voxels[:, axis] >= -0.5) & (voxels[:, axis] <= length - 0.5)
    spacing = torch.ones_like(voxels[..., 0]) if view.spacing is None else view.spacing
    edges = view_spacing(view.theta, spacing).unbind(1)
    sides = zip(edges, view.size, grid, strict=True)
    squares = torch.stack([(mm * (length / count)).square() for mm, length, count in sides])
    return Cells(in_mm(view, voxels), inside, squares.sum(0).sqrt())


def distances(first: Cells, second: Cells) -> Tensor:
    """Mm between the centres of two views' cells: float32 (B, P, Q).

    Axis by axis: as a product of matrices it would lose what is small beside the crop.
    """
    here, there = first.position[:, :, :, None], second.position[:, :, None]
    square = (here[:, 0] - there[:, 0]).square_()
    for axis in range(1, here.shape[1]):
        gap = here[:, axis] - there[:, axis]
        square.addcmul_(gap, gap)
    return square.sqrt_()


def far_pairs(second: Cells, apart: Tensor, least: float) -> Tensor:
    """Cells of the second of two views that show another place: farther away than `least` mm, by
    the views' `distances` (B, P, Q), and inside the crop. Returns bool (B, P, Q)."""
    return (apart > least) & second.inside[:, None]


def near_pairs(first: Cells, second: Cells, apart: Tensor, share: float) -> Tensor:
    """Cells of two views that show nearly the same place (Xie et al. 2021, "Propagate yourself",
    eq. 1): nearer than a share of the larger of the two views' cell diagonals.

    Args:
        first, second: of the same crops.
        apart: their `distances`, (B, P, Q).
        share: of the diagonal.

    Returns:
        bool (B, P, Q); never a cell whose centre lies outside the crop.
    """
    most = share * torch.maximum(first.diagonal, second.diagonal)
    both = first.inside[:, :, None] & second.inside[:, None]
    return (apart < most[:, None, None]) & both
