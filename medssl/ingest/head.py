"""Where a head lies in a volume: the skin, and a plain model of a head fitted to it.

The model is a smooth union of ellipsoids (vault, base, face, brow, nose, chin, neck) less the
orbits, in a frame of its own: mm, +x right, +y front, +z up, origin near the anterior commissure,
in the proportions of an adult. No atlas, no network, nobody's scan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from medssl.ingest.skin import Skin, outer_surface

Array = npt.NDArray[Any]

# What adds to the head: centre, radii, and the width of the fillet with the parts before; in mm.
_PARTS = (
    ((0, -15, 2), (78, 102, 88), 0),  # vault
    ((0, -18, -45), (75, 62, 48), 15),  # base of the skull, mastoids
    ((0, 36, -74), (62, 50, 68), 15),  # face
    ((0, 66, -16), (46, 21, 14), 10),  # brow
    ((0, 92, -56), (13, 19, 22), 6),  # nose
    ((0, 78, -130), (18, 11, 13), 8),  # chin
    ((0, -36, -130), (58, 60, 120), 20),  # neck
)
# What is taken away: the orbits, of which the right one (x > 0) stands for both.
_ORBIT = ((32, 86, -36), (17, 14, 11))
_CENTRE = np.array([0.0, -15.0, 2.0])  # of the vault
NASION = np.array([0.0, 84.0, -34.0])
"""The root of the nose in the model's frame, mm."""

_SIGMA_MM = 3.0
_POINTS = 150.0  # how many independent points either surface counts for against the prior
_SIZES = (0.65, 1.3)


@dataclass(frozen=True)
class Pose:
    """The model placed in a volume.

    Attributes:
        rotation: about x, y, z in degrees, of the model in RAS.
        centre: RAS mm of the middle of the vault.
        size: along the model's x, y, z, 1 for the adult of the model.
        error: root mean square distance of skin and model both ways, mm, none counted over 20.
    """

    rotation: tuple[float, float, float]
    centre: tuple[float, float, float]
    size: tuple[float, float, float]
    error: float

    def to_model(self, points: Array) -> Array:
        """(n, 3) RAS mm to the model's frame, in the model's own millimetres."""
        turned = (np.asarray(points) - self.centre) @ _matrix(self.rotation)
        return np.asarray(turned / self.size + _CENTRE)

    def from_model(self, points: Array) -> Array:
        """(n, 3) of the model's frame to RAS mm."""
        out = (np.asarray(points) - _CENTRE) * self.size
        return np.asarray(out @ _matrix(self.rotation).T + self.centre)


def _matrix(degrees: Sequence[float] | Array) -> Array:
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_euler("xyz", degrees, degrees=True).as_matrix())


def model_distance(points: Array) -> Array:
    """Distance in mm to the model's skin of (n, 3) points of its frame, negative inside.

    First order at the surface, as of an implicit function divided by its gradient.
    """
    total = _ellipsoid(points, *_PARTS[0][:2])
    for centre, radii, width in _PARTS[1:]:
        part = _ellipsoid(points, centre, radii)
        h = np.clip(0.5 + 0.5 * (part - total) / width, 0, 1)
        total = part * (1 - h) + total * h - width * h * (1 - h)
    folded = np.column_stack([np.abs(points[:, 0]), points[:, 1:]])
    return np.maximum(total, -_ellipsoid(folded, *_ORBIT))


def _ellipsoid(points: Array, centre: Sequence[float], radii: Sequence[float]) -> Array:
    scaled = (points - np.asarray(centre)) / np.asarray(radii)
    k0 = np.sqrt((scaled**2).sum(axis=1)) + 1e-6
    k1 = np.sqrt(((scaled / np.asarray(radii)) ** 2).sum(axis=1)) + 1e-9
    return np.asarray(k0 * (k0 - 1) / k1)


@lru_cache(maxsize=1)
def _model_surface() -> Array:
    """(n, 3) points of the model's skin but nape and ears, three times as dense in the face."""
    axes = [np.arange(-100.0, 130.0, 5.0), np.arange(-125.0, 125.0, 5.0), np.arange(-150, 95, 5.0)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    for _ in range(3):  # onto the surface along the gradient
        near = model_distance(points)
        points, near = points[np.abs(near) < 5], near[np.abs(near) < 5]
        slope = np.stack([model_distance(points + step) - near for step in np.eye(3)], axis=1)
        points = points - slope * (near / np.maximum((slope**2).sum(axis=1), 0.1))[:, None]
    front = (points[:, 1] > 40) & (points[:, 2] < 0)
    above = (points[:, 2] > -15) | (points[:, 1] > 25)
    order = np.random.default_rng(0).permutation(len(points))
    chosen = order[(front | (order % 3 == 0))[order] & above[order]]
    return np.asarray(points[chosen])


class Fitter:
    """Fits the model to the skin of a volume.

    Robust least squares of the distances of skin to model and of model to skin, the latter where
    the field of view goes; with a weak prior, for heads are turned little, and no dimension of one
    is far from what the others say.

    Args:
        skin: what to fit to; see :func:`medssl.ingest.skin.upper`.
    """

    def __init__(self, skin: Skin) -> None:
        self._skin = skin
        self._points = np.random.default_rng(0).permutation(outer_surface(skin))
        inside = ndimage.distance_transform_edt(skin.mask, sampling=skin.spacing)
        outside = ndimage.distance_transform_edt(~skin.mask, sampling=skin.spacing)
        self._gap = (outside - inside).astype(np.float32)
        self._to_voxel = np.linalg.inv(skin.affine)
        self.size = float(np.clip((skin.width / 158 + skin.depth / 206) / 2, *_SIZES))
        self._start = np.array([*skin.middle, skin.top - 88 * self.size])

    def body(self) -> Array:
        """(n, 3) RAS mm of the voxels of the body, on the coarse grid."""
        index = np.argwhere(self._skin.mask)
        return np.asarray(index @ self._skin.affine[:3, :3].T + self._skin.affine[:3, 3])

    def skin_distance(self, points: Array) -> tuple[Array, Array]:
        """Distance in mm to the skin of (n, 3) RAS points, negative inside; and which are seen."""
        index = points @ self._to_voxel[:3, :3].T + self._to_voxel[:3, 3]
        seen: Array = np.all((index >= 0) & (index <= np.array(self._gap.shape) - 1), axis=1)
        return ndimage.map_coordinates(self._gap, index.T, order=1, mode="nearest"), seen

    def fit(self, yaw: float = 0.0, nasion: Array | None = None) -> Pose:
        """Fit from three pitches; the best counts.

        Args:
            yaw: degrees about z to start from; 180 looks for a head that faces backwards.
            nasion: RAS mm of the root of the nose, where it is known.
        """
        # Nape, ears and shoulders differ most and say least of the face.
        ahead = (self._points[:, 1] - self._start[1]) * np.cos(np.deg2rad(yaw)) > 35
        points = self._points[(self._points[:, 2] > self._start[2] - 20) | ahead]
        starts = [
            np.array([pitch, 0, yaw, *self._start[:2], self._start[2] + up, *[self.size] * 3])
            for pitch in (-18.0, 0.0, 18.0)
            for up in ((0.0, 30.0) if self._skin.cut_above else (0.0,))
        ]
        rough = [self._solve(points[:300], 300, one, yaw, nasion, 12) for one in starts]
        best = min(rough, key=lambda found: float(found.cost)).x
        p = self._solve(points[:1000], 1000, best, yaw, nasion, 40).x
        gaps = np.abs(np.concatenate(self._gaps(p, points, _model_surface())))
        turn, place, sizes = ((float(v[0]), float(v[1]), float(v[2])) for v in np.split(p, 3))
        return Pose(turn, place, sizes, float(np.sqrt(np.mean(np.minimum(gaps, 20) ** 2))))

    def _gaps(self, p: Array, points: Array, surface: Array) -> tuple[Array, Array]:
        """Skin to model and model to skin, mm."""
        matrix, sizes = _matrix(p[:3]), p[6:]
        data = model_distance((points - p[3:6]) @ matrix / sizes + _CENTRE) * sizes.mean()
        model, seen = self.skin_distance(((surface - _CENTRE) * sizes) @ matrix.T + p[3:6])
        return data, np.where(seen, model, 0.0)

    def _solve(
        self, points: Array, count: int, start: Array, yaw: float, nasion: Array | None, most: int
    ) -> Any:
        from scipy import optimize

        surface = _model_surface()[:count]

        def residuals(p: Array) -> Array:
            out = []
            for gap in self._gaps(p, points, surface):
                robust = np.sqrt(2 * (np.sqrt(1 + (gap / _SIGMA_MM) ** 2) - 1))
                out.append(robust * np.sqrt(_POINTS / max(len(gap), 1)))
            mean = p[6:].mean()
            out.append(np.array([p[0], p[1], p[2] - yaw]) / 30)
            out.append(np.append((p[6:] / mean - 1) / 0.04, (mean / self.size - 1) / 0.08))
            out.append((p[3:6] - self._start) / 40)
            if nasion is not None:
                at = (NASION - _CENTRE) * p[6:] @ _matrix(p[:3]).T + p[3:6]
                out.append((at - nasion) / [8.0, 6.0, 4.0])
            return np.concatenate(out)

        bounds = ([-np.inf] * 6 + [_SIZES[0]] * 3, [np.inf] * 6 + [_SIZES[1]] * 3)
        scale = np.array([10.0, 10, 10, 10, 10, 10, 0.1, 0.1, 0.1])
        return optimize.least_squares(residuals, start, x_scale=scale, max_nfev=most, bounds=bounds)
