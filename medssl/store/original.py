"""The grid of slices that a resampled volume came from, and the way back to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_EDGE = 0.5 + 1e-5  # a voxel reaches half its size beyond its centre
# Halfway, the voxel towards the end of columns, rows and slices is the nearest. Slices less: a step
# between sheared ones moves along the columns and rows too.
_NUDGE, _NUDGE_OF_SLICES = 1e-6, 1e-9


@dataclass(frozen=True)
class OriginalGrid:
    """Where the slices lay before they were resampled.

    Attributes:
        affine: 16 numbers row by row, (column, row, position) to RAS mm; it may be sheared.
        shape: (columns, rows, slices).
        positions: of each slice along the third axis of the affine, ascending; empty where slice k
            lies at k. Where slices are unevenly spaced that axis has 1 mm along the normal, and
            these are millimetres from the first slice.
    """

    affine: tuple[float, ...]
    shape: tuple[int, int, int]
    positions: tuple[float, ...] = ()

    @property
    def matrix(self) -> Array:
        """The affine, 4x4 float64."""
        return np.asarray(self.affine, dtype=np.float64).reshape(4, 4)

    @property
    def steps(self) -> Array:
        """Position of every slice along the third axis, float64."""
        return np.asarray(self.positions or range(self.shape[2]), dtype=np.float64)

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> OriginalGrid | None:
        """The grid that a manifest row states; None where the volume was not resampled."""
        affine, shape, positions = (
            row.get(f"source_{n}") for n in ("affine", "shape", "positions")
        )
        if affine is None or len(affine) == 0 or shape is None:
            return None
        columns, rows, slices = (int(n) for n in shape)
        places = () if positions is None else tuple(float(p) for p in positions)
        return cls(tuple(float(v) for v in affine), (columns, rows, slices), places)


def to_original(
    array: Array, affine: Array, grid: OriginalGrid, *, order: int = 0, outside: float = 0
) -> Array:
    """Carry an image or a mask from a volume's grid to the slices the volume was made of.

    Args:
        array: (channel, x, y, z), on the grid of ``affine``, in any orientation.
        affine: 4x4, voxel to RAS mm.
        grid: the slices.
        order: 0 nearest neighbour (masks), 1 linear.
        outside: value of what lies further than half a voxel outside of ``array``.

    Returns:
        (channel, column, row, slice): the slices in ascending order along their normal, in the
        dtype of ``array``, with order 1 float32.
    """
    from scipy import ndimage  # slow to import, and ingest needs the grid alone

    columns, rows, _ = grid.shape
    moved = np.linalg.inv(np.asarray(affine, dtype=np.float64)) @ grid.matrix
    nudge, lift = (_NUDGE, _NUDGE_OF_SLICES) if order == 0 else (0.0, 0.0)
    corner = np.indices((columns, rows), dtype=np.float64) + nudge
    plane = np.einsum("ij,jcr->icr", moved[:3, :2], corner)
    limits = np.array(array.shape[1:], dtype=np.float64)[:, None, None]
    kind = array.dtype if order == 0 else np.dtype(np.float32)
    out = np.empty((array.shape[0], *grid.shape), dtype=kind)
    for index, step in enumerate(grid.steps + lift):
        place = plane + (moved[:3, 2] * step + moved[:3, 3])[:, None, None]
        inside = ((place >= -_EDGE) & (place <= limits - 1 + _EDGE)).all(axis=0)
        place = np.clip(place, 0, limits - 1)
        for channel, target in zip(array, out, strict=True):
            values = ndimage.map_coordinates(channel, place, output=kind, order=order)
            target[..., index] = np.where(inside, values, kind.type(outside))
    return out
