"""Eyes, brow and nose as seen from the front: the relief of a volume's skin beside the model's.

The relief is a depth map less a smooth copy of itself. Rotations and the size of the head hardly
change it, so it says how high the eyes lie even where the vertex is cut off, and whether there is
a face at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from medssl.ingest.head import Fitter, Pose, model_distance

Array = npt.NDArray[Any]
Distance = Callable[[Array], tuple[Array, Array]]

_STEP = 4.0
_ACROSS = np.arange(-60.0, 61.0, _STEP)
_DEPTH = np.arange(150.0, 0.0, -3.0)
_UP = np.arange(-190.0, 90.0, _STEP)
_WINDOW = np.flatnonzero((_UP >= -78) & (_UP <= 4))  # from under the nose to over the brow
_EYES = _UP[_WINDOW] > -50
_BESIDE = np.abs(_ACROSS) <= 48
_SHIFTS = 14
_SEEN = 0.8


@dataclass(frozen=True)
class Match:
    """How the relief of a skin fits that of the model.

    Attributes:
        score: their correlation, -1 to 1.
        strength: relief of the skin for each millimetre of the model's, the regression's slope.
        shift: how much higher than in the pose the face lies, model mm.
    """

    score: float
    strength: float
    shift: float


def match(fitter: Fitter, pose: Pose) -> Match | None:
    """Look for eyes, brow and nose in front of a pose, up to 56 mm higher or lower.

    Args:
        fitter: knows the skin.
        pose: where the head is.

    Returns:
        the best match; None where the field of view has no such region, or ends in the body.
    """

    def distance(points: Array) -> tuple[Array, Array]:
        return fitter.skin_distance(pose.from_model(points))

    relief, seen = _relief(distance)
    template = _template()
    found = []
    for shift in range(-_SHIFTS, _SHIFTS + 1):
        rows = _WINDOW + shift
        if rows[0] < 0 or rows[-1] >= len(_UP):
            continue
        there = seen[:, rows]
        if there[:, _EYES].mean() < _SEEN:
            continue
        one, two = relief[:, rows][there], template[there]
        one, two = one - one.mean(), two - two.mean()
        both, own, other = float(one @ two), float(one @ one), float(two @ two)
        score = both / np.sqrt(own * other + 1e-9)
        found.append(Match(score, both / (other + 1e-9), shift * _STEP))
    return max(found, key=lambda m: m.score, default=None)


@lru_cache(maxsize=1)
def _template() -> Array:
    def distance(points: Array) -> tuple[Array, Array]:
        return model_distance(points), np.ones(len(points), dtype=bool)

    return _relief(distance)[0][:, _WINDOW]


def _relief(distance: Distance) -> tuple[Array, Array]:
    """(across, up) mm, and where the skin is seen with air before it."""
    grid = np.stack(np.meshgrid(_ACROSS, _DEPTH, _UP, indexing="ij"), axis=-1)
    gap, inside = (part.reshape(grid.shape[:3]) for part in distance(grid.reshape(-1, 3)))
    hit = (gap < 0) & inside
    first = hit.argmax(axis=1)
    before = np.take_along_axis(inside, np.maximum(first - 1, 0)[:, None], axis=1)[:, 0]
    seen = hit.any(axis=1) & before & (first > 0)
    depth = np.where(seen, _DEPTH[first], 0.0)
    weight = ndimage.gaussian_filter(seen.astype(np.float64), 5)
    smooth = ndimage.gaussian_filter(depth, 5) / np.maximum(weight, 1e-3)
    fine = ndimage.gaussian_filter(np.where(seen, depth - smooth, 0.0), 0.7)
    return np.where(seen, np.clip(fine, -20, 20), 0.0)[_BESIDE], seen[_BESIDE]
