"""Smooth random displacement: a uniform cubic B-spline over a coarse grid of control points.

Rueckert et al. 1999, "Nonrigid registration using free-form deformations", equation 1. Control
points no further than 0.4 cells from their place keep the map one to one (Choi and Lee 2000,
"Injectivity conditions of 2D and 3D uniform cubic B-spline functions": 1/2.05 of a cell in 2D,
1/2.48 in 3D), so a view never folds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

LARGEST = 0.4  # cells
MARGIN = 3  # a cubic spline over n cells has n + 3 control points


def _basis(place: Tensor, nodes: int) -> Tensor:
    """Weights (..., nodes) of the control points at `place`, counted in cells from the first."""
    last = nodes - MARGIN
    cell = place.floor().clamp(0, last - 1)
    u = place - cell
    parts = torch.stack(
        (
            (1 - u) ** 3 / 6,
            (3 * u**3 - 6 * u**2 + 4) / 6,
            (-3 * u**3 + 3 * u**2 + 3 * u + 1) / 6,
            u**3 / 6,
        ),
        dim=-1,
    )
    index = cell[..., None].long() + torch.arange(MARGIN + 1, device=place.device)
    weights = parts.new_zeros(*place.shape, nodes)
    return weights.scatter(-1, index, parts)


def dense(control: Tensor, size: Sequence[int]) -> Tensor:
    """The displacement at every voxel of a view: (B, d, *nodes) -> (B, d, *size)."""
    lead = control.shape[:2]
    with torch.autocast(control.device.type, enabled=False):
        for axis, length in enumerate(size):
            nodes = control.shape[axis + 2]
            centre = torch.arange(length, dtype=torch.float32, device=control.device) + 0.5
            weights = _basis(centre * ((nodes - MARGIN) / length), nodes)
            rest = control.shape[axis + 3 :]
            if rest:
                control = weights @ control.reshape(-1, nodes, math.prod(rest))
            else:
                control = control.reshape(-1, nodes) @ weights.T
            control = control.reshape(*lead, *size[: axis + 1], *rest)
    return control


def at(control: Tensor, points: Tensor, size: Sequence[int]) -> Tensor:
    """The displacement at any points of a view of `size`: (B, d, *nodes), (B, d, P) -> (B, d, P).

    Beyond the view's edge the value at the edge holds.
    """
    weights = []
    for axis, length in enumerate(size):
        nodes = control.shape[axis + 2]
        place = (points[:, axis] + 0.5).clamp(0, length) * ((nodes - MARGIN) / length)
        weights.append(_basis(place, nodes))
    with torch.autocast(control.device.type, enabled=False):
        if len(size) == 2:
            return torch.einsum("bdij,bpi,bpj->bdp", control, *weights)
        return torch.einsum("bdijk,bpi,bpj,bpk->bdp", control, *weights)
