"""Where planes of a label object lie on the slices of its volume, voxel for voxel.

A plane must be a plane of the grid: the same voxels, perhaps counted along other axes or from the
other end. Anything between the voxels would have to be resampled, and is refused. The grid is that
of the slices, which a label was drawn on, whatever becomes of them afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import MedsslError
from medssl.ingest.geometry import LPS_TO_RAS, SlicePose
from medssl.ingest.volume import DicomVolume

Array = npt.NDArray[Any]
Where = tuple[int | None, int | None, int | None]

PIXEL_TOLERANCE = 0.05
"""How far a pixel may be from its voxel along columns and rows, in voxels."""
SLICE_TOLERANCE = 0.1
"""How far a plane may be from its slice, in distances between slices: slices themselves may be
up to half of it off an even grid."""


@dataclass(frozen=True)
class SliceGrid:
    """The slices of a volume as they are in its files, before any resampling.

    Attributes:
        shape: (columns, rows, slices).
        to_voxel: 4x4 float64, LPS mm to (column, row, position).
        positions: of each slice along the third axis, ascending; empty where slice k lies at k.
    """

    shape: tuple[int, int, int]
    to_voxel: Array
    positions: tuple[float, ...] = ()

    @classmethod
    def of(cls, volume: DicomVolume) -> SliceGrid:
        """The slices of a volume. A single one is taken for 1 mm thick, or as thick as it states.

        Raises:
            MedsslError: LABEL_GRID_MISMATCH where they have no place in space (a radiograph).
        """
        shape = grid_shape(volume)
        if volume.original is not None:
            affine = LPS_TO_RAS @ volume.original.matrix
            return cls(shape, np.linalg.inv(affine), volume.original.positions)
        if volume.affine is not None:
            return cls(shape, np.linalg.inv(LPS_TO_RAS @ volume.affine))
        affine = plane_affine(volume.headers[0].pose)
        thickness = volume.headers[0].thickness or 0.0
        affine[:3, 2] *= thickness if 0 < thickness < np.inf else 1.0
        return cls(shape, np.linalg.inv(affine))

    def voxels(self, points: Array) -> Array:
        """(n, 3) LPS mm -> (column, row, slice), slices counted in fractions too."""
        found = points @ self.to_voxel[:3, :3].T + self.to_voxel[:3, 3]
        if self.positions:
            steps, below = self._below(found[:, 2])
            found[:, 2] = below + (found[:, 2] - steps[below]) / np.diff(steps)[below]
        return found

    def index(self, pose: SlicePose) -> Array:
        """4x4 float64: (column, row, 0, 1) of a plane to (column, row, slice) of the grid.

        Raises:
            MedsslError: LABEL_GRID_MISMATCH where the plane has no place in space, or cuts through
                unevenly spaced slices.
        """
        index = np.asarray(self.to_voxel @ plane_affine(pose))
        if self.positions:
            steps, below = self._below(index[2, 3])
            index[2, 3] -= steps[below]
            index[2] /= np.diff(steps)[below]
            index[2, 3] += below
            if (np.abs(index[2, :2]) > SLICE_TOLERANCE).any():
                raise _mismatch("A plane of it cuts through unevenly spaced slices")
        return index

    def _below(self, places: Array) -> tuple[Array, Array]:
        """The positions, and the slice (the last but one at most) that places are counted from."""
        steps = np.asarray(self.positions)
        return steps, np.clip(np.searchsorted(steps, places, "right") - 1, 0, len(steps) - 2)


def grid_shape(volume: DicomVolume) -> tuple[int, int, int]:
    """(columns, rows, slices) of a volume's files."""
    rows, columns = volume.headers[0].pose.shape
    return columns, rows, len(volume.headers)


def plane_affine(pose: SlicePose) -> Array:
    """4x4 float64: (column, row, mm along the normal) of a plane to LPS mm (PS3.3 C.7.6.2.1.1).

    Raises:
        MedsslError: LABEL_GRID_MISMATCH where the plane has no place in space.
    """
    if len(pose.orientation) != 6 or len(pose.position) != 3:
        raise MedsslError("LABEL_GRID_MISMATCH", "The image has no place in space")
    row, column = np.asarray(pose.orientation, dtype=np.float64).reshape(2, 3)
    between_rows, between_columns = pose.pixel_spacing
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = row * between_columns, column * between_rows
    affine[:3, 2], affine[:3, 3] = np.cross(row, column), pose.position
    return affine


@dataclass(frozen=True)
class Layer:
    """Pixels of one structure in one plane.

    Attributes:
        where: the index of the plane along one axis of the grid (x, y, z), None along the others.
        mask: bool, along the two other axes of the grid, in their order.
    """

    where: Where
    mask: Array

    @property
    def window(self) -> tuple[int | slice, ...]:
        """The plane's index in an array (x, y, z)."""
        return tuple(slice(None) if index is None else index for index in self.where)


@dataclass(frozen=True)
class Placement:
    """How the pixels of a plane become voxels.

    Attributes:
        where: as of :class:`Layer`.
        axes: the axes of the grid that columns and rows are counted along.
        steps: 1, or -1 where they are counted from the other end.
    """

    where: Where
    axes: tuple[int, int]
    steps: tuple[int, int]

    def layer(self, mask: Array) -> Layer:
        """Turn pixels (row, column) so that they fit the grid."""
        turned = mask.T[:: self.steps[0], :: self.steps[1]]
        return Layer(self.where, turned if self.axes[0] < self.axes[1] else turned.T)


def place(index: Array, size: tuple[int, int], grid: tuple[int, int, int]) -> Placement:
    """Find the voxels that a plane's pixels are.

    Args:
        index: 4x4, (column, row, 0, 1) of the plane to (x, y, z) of the grid.
        size: (rows, columns) of the plane.
        grid: voxels along x, y, z, z being the slices.

    Raises:
        MedsslError: LABEL_GRID_MISMATCH.
    """
    if not np.isfinite(index).all():
        raise _mismatch("A plane of it has no certain place")
    start = np.rint(index[:3, 3])
    drift = np.abs(index[:3, 3] - start)
    axes, steps = [], []
    for step, length in zip(index[:3, :2].T, size[::-1], strict=True):
        axis = int(np.abs(step).argmax())
        whole = np.zeros(3)
        whole[axis] = np.sign(step[axis])
        drift += np.abs(step - whole) * (length - 1)
        axes.append(axis)
        steps.append(int(whole[axis]))
    if axes[0] == axes[1] or (drift > [PIXEL_TOLERANCE, PIXEL_TOLERANCE, SLICE_TOLERANCE]).any():
        raise _mismatch("Its pixels lie between the voxels of the image")
    for axis, step, length in zip(axes, steps, size[::-1], strict=True):
        if grid[axis] != length or start[axis] != (0 if step > 0 else length - 1):
            raise _mismatch("It covers another part of space than the image")
    across = 3 - axes[0] - axes[1]
    if not 0 <= start[across] < grid[across]:
        raise _mismatch("A plane of it lies outside the image")
    where: list[int | None] = [None, None, None]
    where[across] = int(start[across])
    return Placement((where[0], where[1], where[2]), (axes[0], axes[1]), (steps[0], steps[1]))


def _mismatch(what: str) -> MedsslError:
    return MedsslError("LABEL_GRID_MISMATCH", what)
