"""Smooth random fields and signed distances: the tools the anatomy is drawn with.

Everything is in millimetres in the patient's own frame (RAS+), so the same seed draws the same
patient on a coarse and on a fine grid. Signed distances are negative inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Array = NDArray[np.floating[Any]]

_HALF_FIELD = 260.0
"""Millimetres from the centre that every random lattice covers."""

_SPLINE_STD = (151.0 / 315.0) ** 1.5
"""Standard deviation of a 3D cubic B-spline blend of unit white noise, averaged over a cell."""


class Grid:
    """A regular grid of voxel centres around the origin, with its coordinates in millimetres.

    shape: voxels along x, y, z. spacing: millimetres. `x`, `y`, `z` are float32 arrays that
    broadcast to `shape`; `warp` replaces them by displaced ones of the full shape.
    """

    def __init__(self, shape: Sequence[int], spacing: Sequence[float]) -> None:
        self.shape = (int(shape[0]), int(shape[1]), int(shape[2]))
        self.spacing = (float(spacing[0]), float(spacing[1]), float(spacing[2]))
        self.axes = tuple(
            ((np.arange(n) - (n - 1) / 2.0) * step).astype(np.float32)
            for n, step in zip(self.shape, self.spacing, strict=True)
        )
        self.x: Array = self.axes[0][:, None, None]
        self.y: Array = self.axes[1][None, :, None]
        self.z: Array = self.axes[2][None, None, :]

    def noise(self, rng: np.random.Generator, step: float) -> Array:
        """A smooth Gaussian-like field of zero mean and unit variance.

        step: distance in mm between the random values that are blended; features are about twice
        as large. The draw does not depend on the grid, only its sampling does.
        """
        count = int(np.ceil(2 * _HALF_FIELD / step)) + 4
        lattice = rng.standard_normal((count, count, count), dtype=np.float32)
        parts, weights = zip(
            *(_spline_weights(axis, step, count) for axis in self.axes), strict=True
        )
        field = np.tensordot(weights[0], lattice[parts], axes=(1, 0))
        field = np.tensordot(field, weights[1], axes=(1, 1))
        field = np.tensordot(field, weights[2], axes=(1, 1))
        return np.asarray(field / _SPLINE_STD, dtype=np.float32)

    def warp(self, rng: np.random.Generator, step: float, amplitude: float) -> None:
        """Bend the coordinates by a smooth random displacement (amplitude: its SD in mm)."""
        moved = [self.noise(rng, step) * np.float32(amplitude) for _ in range(3)]
        self.x, self.y, self.z = (
            np.asarray(old + shift, dtype=np.float32)
            for old, shift in zip((self.x, self.y, self.z), moved, strict=True)
        )

    def texture(self, rng: np.random.Generator, sigma: float) -> Array:
        """White noise blurred by `sigma` mm, rescaled to unit variance, drawn on this grid."""
        white = rng.standard_normal(self.shape, dtype=np.float32)
        soft = gaussian_filter(white, [sigma / step for step in self.spacing])
        return np.asarray(soft / soft.std(), dtype=np.float32)


def _spline_weights(axis: Array, step: float, count: int) -> tuple[slice, Array]:
    """The part of the lattice that an axis needs, and (len(axis), part) cubic B-spline weights."""
    position = (axis + _HALF_FIELD) / step + 1.0
    if position.min() < 1.0 or position.max() > count - 3:
        raise ValueError(f"the grid reaches beyond {_HALF_FIELD:.0f} mm from its centre")
    first = np.floor(position).astype(int)
    t = (position - first).astype(np.float32)
    start, stop = int(first.min()) - 1, int(first.max()) + 3
    weights = np.zeros((len(axis), stop - start), dtype=np.float32)
    parts = (
        (1 - t) ** 3 / 6,
        (3 * t**3 - 6 * t**2 + 4) / 6,
        (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6,
        t**3 / 6,
    )
    rows = np.arange(len(axis))
    for offset, part in enumerate(parts):
        weights[rows, first - 1 + offset - start] = part
    return slice(start, stop), weights


def ellipsoid(
    grid: Grid, centre: Sequence[float], radii: Sequence[float], turn: float = 0
) -> Array:
    """Signed distance in mm to an ellipsoid; `turn` rotates it about y, in degrees.

    The estimate is k0 (k0 - 1) / k1 with k0 = |p / r| and k1 = |p / r^2|, exact at the surface to
    first order.
    """
    px, py, pz = grid.x - centre[0], grid.y - centre[1], grid.z - centre[2]
    if turn:
        c, s = np.float32(np.cos(np.deg2rad(turn))), np.float32(np.sin(np.deg2rad(turn)))
        px, pz = c * px + s * pz, c * pz - s * px
    xx, yy, zz = (px / radii[0]) ** 2, (py / radii[1]) ** 2, (pz / radii[2]) ** 2
    k0 = np.sqrt(xx + yy + zz)
    k1 = np.sqrt(xx / radii[0] ** 2 + yy / radii[1] ** 2 + zz / radii[2] ** 2)
    k0 = np.maximum(k0, 1e-4)  # the centre itself would be 0 / 0
    return np.asarray(k0 * (k0 - 1) / np.maximum(k1, k0 / max(radii)), dtype=np.float32)


def tube(grid: Grid, start: Sequence[float], end: Sequence[float], radius: float) -> Array:
    """Signed distance in mm to a capsule between two points."""
    a, b = np.asarray(start, dtype=np.float32), np.asarray(end, dtype=np.float32)
    along = b - a
    px, py, pz = grid.x - a[0], grid.y - a[1], grid.z - a[2]
    t = np.clip((px * along[0] + py * along[1] + pz * along[2]) / (along @ along), 0, 1)
    gap = (px - t * along[0]) ** 2 + (py - t * along[1]) ** 2 + (pz - t * along[2]) ** 2
    return np.asarray(np.sqrt(gap) - radius, dtype=np.float32)


def blend(first: Array, second: Array, width: float) -> Array:
    """Union of two signed distances with a fillet of about `width` mm (polynomial smooth min)."""
    h = np.clip(0.5 + 0.5 * (second - first) / width, 0, 1)
    return np.asarray(second * (1 - h) + first * h - width * h * (1 - h), dtype=np.float32)


def inside(*distances: Array) -> Array:
    """Intersection of signed distances."""
    out = distances[0]
    for other in distances[1:]:
        out = np.maximum(out, other)
    return out


class Canvas:
    """An image and a label map painted from back to front.

    `paint` covers what the signed distance encloses with `value`, softened over about a voxel as
    partial volume would; `label` is written where at least half is covered.
    """

    def __init__(self, grid: Grid, background: float) -> None:
        self.image: Array = np.full(grid.shape, background, dtype=np.float32)
        self.label: NDArray[np.uint8] = np.zeros(grid.shape, dtype=np.uint8)
        self._edge = np.float32(min(grid.spacing))

    def paint(self, distance: Array, value: float | Array, label: int | None = 0) -> None:
        """Cover the inside of `distance` with `value`; `label` None leaves the label map alone."""
        cover = np.clip(0.5 - distance / self._edge, 0, 1).astype(np.float32)
        self.image += cover * (value - self.image)
        if label is not None:
            self.label[np.broadcast_to(cover >= 0.5, self.label.shape)] = label
