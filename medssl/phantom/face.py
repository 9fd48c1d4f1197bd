"""A head with a face, to test what removes faces: skin, skull, brain, eyes, nose, lips, chin, ears.

Lengths are in mm in the head's own frame, +x right, +y front, +z up, origin near the anterior
commissure. Everything is drawn from formulas; no person looks like it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from medssl.phantom.fields import Array, Grid, blend, ellipsoid, inside, tube

FEATURES = ("eyes", "nose", "lips", "chin", "ears")
_SIDES = (-1, 1)
# air, skin and fat, muscle, bone, fluid, brain
_VALUES = {
    "CT": (-1000.0, -60.0, 45.0, 900.0, 8.0, 35.0),
    "T1": (0.0, 1.0, 0.45, 0.08, 0.18, 0.75),
    "FLAIR": (0.0, 0.55, 0.4, 0.06, 0.1, 0.8),
    "PT": (0.05, 0.6, 0.9, 0.5, 0.4, 5.0),
}


@dataclass(frozen=True)
class FacePhantom:
    """A head as an image, and where its parts are.

    Attributes:
        image: (x, y, z) float32; HU, or arbitrary units.
        affine: 4x4, voxel to RAS mm.
        brain: bool, brain, cerebellum and brainstem.
        features: bool masks of the skin voxels of eyes, nose, lips, chin and ears.
    """

    image: Array
    affine: NDArray[np.floating[Any]]
    brain: NDArray[np.bool_]
    features: dict[str, NDArray[np.bool_]]


def face(
    seed: int,
    *,
    contrast: str = "T1",
    shape: Sequence[int] = (80, 96, 96),
    spacing: Sequence[float] = (3.0, 3.0, 3.0),
    turn: Sequence[float] = (0.0, 0.0, 0.0),
    at: Sequence[float] = (0.0, 0.0, 20.0),
    size: float = 1.0,
) -> FacePhantom:
    """Draw one head.

    Args:
        seed: of its build (nose, jaw, widths), bending and noise.
        contrast: "CT", "T1", "FLAIR" or "PT".
        shape, spacing: of the grid, which is centred on the origin of RAS.
        turn: degrees about x, y, z.
        at: RAS mm of the head's origin.
        size: 1 for an adult.
    """
    rng = np.random.default_rng(seed)
    grid = Grid(shape, spacing)
    half = [(n - 1) / 2 * step for n, step in zip(grid.shape, grid.spacing, strict=True)]
    affine = np.diag([*grid.spacing, 1.0])
    affine[:3, 3] = [-edge for edge in half]
    table = np.broadcast_to(grid.y + 104 * size + 18 - at[1], grid.shape)
    grid.warp(rng, 60.0, 1.5)
    _place(rng, grid, turn, at, size)
    parts = _Parts(rng, grid)
    image = _paint(rng, grid, parts, contrast, table)
    edge = 1.2 * max(grid.spacing)
    skin = (parts.skin < 0) & (parts.skin > -edge)
    features = {name: skin & (parts.near[name] < 3.0) for name in FEATURES}
    return FacePhantom(image, affine, parts.brain < 0, features)


def _place(
    rng: np.random.Generator, grid: Grid, turn: Sequence[float], at: Sequence[float], size: float
) -> None:
    """Replace the grid's coordinates by those of the head's frame."""
    world = np.stack([grid.x - at[0], grid.y - at[1], grid.z - at[2]], axis=-1)
    turned = world @ Rotation.from_euler("xyz", turn, degrees=True).as_matrix()
    turned = turned / (size * rng.uniform(0.94, 1.06, 3))
    grid.x, grid.y, grid.z = np.moveaxis(turned.astype(np.float32), -1, 0)


class _Parts:
    """Signed distances of what a head is made of."""

    def __init__(self, rng: np.random.Generator, grid: Grid) -> None:
        u = rng.uniform
        self.brain = self._brain(grid)
        skull = ellipsoid(grid, (0, -16, 4), (71, 93, 79))
        self.skull = blend(skull, self.brain - 4.0, 6.0)
        vault = self.skull - u(6, 10)
        brow = ellipsoid(grid, (0, 68, -16), (48, 19, 13))
        midface = ellipsoid(grid, (0, 36, -70), (u(56, 66), 48, 52))
        drop = u(-8, 8)
        jaw = ellipsoid(grid, (0, 40, -110 + drop), (u(44, 54), 44, 34))
        chin = ellipsoid(grid, (0, 80, -130 + drop), (18, 10, 13))
        neck = tube(grid, (0, -34, -60), (0, -44, -240), u(50, 62))
        tip = 100 + u(-5, 5)
        nose = blend(
            tube(grid, (0, 77, -30), (0, tip - 9, -58), 9.0),
            ellipsoid(grid, (0, tip + 1, -62), (u(13, 18), 11, 10)),
            7.0,
        )
        lips = blend(
            ellipsoid(grid, (0, 85, -90), (25, 9, 5)),
            ellipsoid(grid, (0, 83, -99), (22, 9, 6)),
            2.0,
        )
        head = blend(blend(vault, brow, 10.0), blend(midface, jaw, 14.0), 14.0)
        for side in _SIDES:
            head = inside(head, -ellipsoid(grid, (side * 32, 90, -36), (18, 17, 12)))
        eyes = self._both(grid, (32, 61, -36), (12.5, 12.5, 12.5))
        ears = self._both(grid, (79, -22, -42), (7, 18, 30))
        for extra, width in ((eyes, 3.0), (nose, 6.0), (lips, 3.0), (chin, 8.0), (neck, 14.0)):
            head = blend(head, extra, width)
        self.skin = blend(head, ears, 4.0)
        self.jawbone = inside(
            np.abs(blend(midface, jaw, 14.0) + 12) - 3, -ellipsoid(grid, (0, 0, -70), (70, 30, 90))
        )
        self.near = {"eyes": eyes, "nose": nose, "lips": lips, "chin": chin, "ears": ears}
        self.cavity = blend(
            blend(
                tube(grid, (0, 90, -64), (0, 18, -68), 6.5),
                tube(grid, (0, 14, -66), (0, 4, -230), 9.0),
                6.0,
            ),
            self._both(grid, (25, 52, -66), (12, 15, 14)),
            3.0,
        )
        self.cavity = np.minimum(self.cavity, ellipsoid(grid, (0, 74, -14), (13, 5, 7)))

    @staticmethod
    def _both(grid: Grid, centre: Sequence[float], radii: Sequence[float]) -> Array:
        pair = [ellipsoid(grid, (side * centre[0], *centre[1:]), radii) for side in _SIDES]
        return np.minimum(pair[0], pair[1])

    def _brain(self, grid: Grid) -> Array:
        """Frontal lobes down to -24 mm in front, temporal poles to -45, cerebellum to -66."""
        hemispheres = ellipsoid(grid, (0, -17, 7), (66, 86, 70))
        floor = np.where(grid.y > 25, -24, -24 - 0.8 * np.clip(25 - grid.y, 0, 25)) - grid.z
        lobes = inside(hemispheres, np.asarray(floor, dtype=np.float32))
        temporal = self._both(grid, (42, -8, -25), (22, 32, 20))
        cerebellum = ellipsoid(grid, (0, -58, -42), (52, 34, 24))
        stem = inside(tube(grid, (0, -25, -15), (0, -38, -75), 11), -70 - grid.z)
        return np.minimum(np.minimum(lobes, temporal), np.minimum(cerebellum, stem))


def _paint(
    rng: np.random.Generator, grid: Grid, parts: _Parts, contrast: str, table: Array
) -> Array:
    air, fat, muscle, bone, fluid, brain = _VALUES[contrast]
    width = np.float32(min(grid.spacing))
    image = np.full(grid.shape, air, dtype=np.float32)

    def cover(distance: Array, value: float) -> None:
        share = np.clip(0.5 - distance / width, 0, 1)
        image[...] += share * (value - image)

    if contrast == "CT":
        cover(np.abs(table) - 3, 100.0)  # a table behind, in part against the head
    cover(parts.skin, fat)
    cover(parts.skin + 4, muscle)
    cover(parts.jawbone, bone)
    cover(parts.skull, bone)
    cover(inside(parts.skull + 5, parts.brain - 3), fluid)
    cover(parts.brain, brain)
    cover(parts.near["eyes"] + 1.5, fluid)
    cover(inside(parts.cavity, parts.skin), air)
    if contrast == "CT":
        return np.asarray(image + 20 * rng.standard_normal(grid.shape), dtype=np.float32)
    if contrast == "PT":
        image = gaussian_filter(image, [2.5 / step for step in grid.spacing])
        counts = rng.poisson(np.maximum(image, 0) * 30) / 30.0
        return np.asarray(
            gaussian_filter(counts, [2.0 / step for step in grid.spacing]), np.float32
        )
    image *= np.exp(0.15 * grid.noise(rng, 110.0))
    real = image + 0.025 * rng.standard_normal(grid.shape, dtype=np.float32)
    imaginary = 0.025 * rng.standard_normal(grid.shape, dtype=np.float32)
    return np.asarray(np.hypot(real, imaginary) * rng.uniform(200, 1500), dtype=np.float32)
