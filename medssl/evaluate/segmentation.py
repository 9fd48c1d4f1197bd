"""How close a predicted label map is to the true one: Dice, surface distances in mm.

Definitions, the same for every class and for 2D and 3D:

- *Surface*. The boundary of a label lies between voxels: every group of 2x2x2 voxels (2x2 pixels
  in 2D) holding both label and background carries one surface element at its centre, weighted by
  the area (length) that marching cubes gives that pattern under the true spacing
  (Nikolov et al. 2018, arXiv:1809.04430, section "Performance metrics"). Outside the image
  counts as background, so a label cut by the image border is closed there.
- *NSD* at a tolerance: the share of both surfaces' area within the tolerance of the other surface.
- *HD95*: the larger of the two directed 95th percentiles of distance, weighted by area.
- *Empty*. In neither map: every metric is nan, and averages leave the case out. In one map only:
  Dice and NSD are 0, and HD95 is the diagonal of the image in mm, so that missing a structure
  can never improve an average.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

METRICS = ("dice", "nsd", "hd95_mm")


@dataclass(frozen=True)
class SegmentationMetrics:
    """Metrics of one class in one case; ``empty`` is "", "prediction", "truth" or "both"."""

    dice: float
    nsd: float
    hd95_mm: float
    empty: str = ""

    def as_dict(self) -> dict[str, float]:
        """The three numbers by name."""
        values = asdict(self)
        return {name: values[name] for name in METRICS}


def segmentation_metrics(
    prediction: npt.NDArray[Any],
    truth: npt.NDArray[Any],
    spacing: Sequence[float],
    classes: Sequence[int],
    tolerance_mm: float = 1.0,
) -> dict[int, SegmentationMetrics]:
    """Dice, NSD and HD95 of each class.

    Args:
        prediction: label map (x, y, z) or (row, column), integers.
        truth: label map of the same shape.
        spacing: voxel size in mm, one number per axis.
        classes: label values to score, without the background.
        tolerance_mm: deviation of the surface that counts as right (NSD).

    Raises:
        ValueError: shapes or spacing disagree, or a spacing or class is not positive.
    """
    if prediction.shape != truth.shape or len(spacing) != truth.ndim or truth.ndim not in (2, 3):
        raise ValueError(
            f"prediction {prediction.shape}, truth {truth.shape} and spacing of {len(spacing)} "
            "numbers must describe one 2D or 3D grid"
        )
    if min(spacing) <= 0 or tolerance_mm < 0 or any(c <= 0 for c in classes):
        raise ValueError("spacing and classes must be positive and the tolerance not negative")
    step = tuple(float(s) for s in spacing)
    diagonal = float(np.linalg.norm(np.multiply(truth.shape, step)))
    box = _bounding_box((prediction > 0) | (truth > 0))
    prediction, truth = prediction[box], truth[box]
    return {
        int(c): _class_metrics(prediction == c, truth == c, step, tolerance_mm, diagonal)
        for c in classes
    }


def summarise(
    cases: Sequence[Mapping[int, SegmentationMetrics]],
) -> dict[int, dict[str, float]]:
    """Mean of each metric over the cases where it is defined, per class, and how many those are.

    Keys per class: the metrics, ``cases`` (averaged over) and ``missed`` (in the truth, not found).
    """
    summary: dict[int, dict[str, float]] = {}
    for c in sorted({c for case in cases for c in case}):
        rows = [case[c] for case in cases if c in case and case[c].empty != "both"]
        means = {
            name: float(np.mean([row.as_dict()[name] for row in rows])) if rows else float("nan")
            for name in METRICS
        }
        missed = sum(row.empty == "prediction" for row in rows)
        summary[c] = {**means, "cases": float(len(rows)), "missed": float(missed)}
    return summary


def _class_metrics(
    prediction: npt.NDArray[np.bool_],
    truth: npt.NDArray[np.bool_],
    spacing: tuple[float, ...],
    tolerance_mm: float,
    diagonal: float,
) -> SegmentationMetrics:
    found, present = int(prediction.sum()), int(truth.sum())
    if not found and not present:
        return SegmentationMetrics(float("nan"), float("nan"), float("nan"), "both")
    if not found or not present:
        return SegmentationMetrics(0.0, 0.0, diagonal, "truth" if found else "prediction")
    dice = 2.0 * int((prediction & truth).sum()) / (found + present)
    box = _bounding_box(prediction | truth)
    nsd, hd95 = _surface_metrics(prediction[box], truth[box], spacing, tolerance_mm)
    return SegmentationMetrics(dice, nsd, hd95)


def _surface_metrics(
    prediction: npt.NDArray[np.bool_],
    truth: npt.NDArray[np.bool_],
    spacing: tuple[float, ...],
    tolerance_mm: float,
) -> tuple[float, float]:
    from scipy.spatial import cKDTree

    points_a, area_a = surface(prediction, spacing)
    points_b, area_b = surface(truth, spacing)
    # unbalanced trees build several times faster on the lattice of surface points
    tree_a = cKDTree(points_a, balanced_tree=False, compact_nodes=False)
    tree_b = cKDTree(points_b, balanced_tree=False, compact_nodes=False)
    a_to_b = tree_b.query(points_a)[0]
    b_to_a = tree_a.query(points_b)[0]
    # a surface exactly at the tolerance is within it, whatever the rounding of the square root
    limit = tolerance_mm * (1 + 1e-9)
    within = area_a[a_to_b <= limit].sum() + area_b[b_to_a <= limit].sum()
    nsd = float(within / (area_a.sum() + area_b.sum()))
    hd95 = max(_weighted_percentile(a_to_b, area_a), _weighted_percentile(b_to_a, area_b))
    return nsd, hd95


def surface(
    mask: npt.NDArray[np.bool_], spacing: tuple[float, ...]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Surface elements of a mask: centres (n, dims) in mm from the first voxel, areas (n,) in mm²
    (lengths in mm in 2D)."""
    areas, bits = _areas(spacing)
    padded = np.pad(mask, 1).astype(np.uint8)
    code = np.zeros([n - 1 for n in padded.shape], np.uint8)
    for offset in np.ndindex(*bits.shape):
        window = tuple(slice(o, o + n) for o, n in zip(offset, code.shape, strict=True))
        code += padded[window] * bits[offset]
    index = np.nonzero((code != 0) & (code != bits.sum(dtype=np.int64)))
    # element i lies between voxels i-1 and i of the unpadded mask
    centres = (np.stack(index, axis=1) - 0.5) * np.asarray(spacing)
    return centres, areas[code[index]]


@lru_cache(maxsize=64)
def _areas(spacing: tuple[float, ...]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.uint8]]:
    """Area of every neighbourhood pattern, and the bit each neighbour has in its code."""
    from monai.metrics.utils import get_code_to_measure_table

    table, kernel = get_code_to_measure_table(spacing)
    bits = kernel.numpy().astype(np.uint8)
    return table.numpy().astype(np.float64), bits.reshape(bits.shape[-len(spacing) :])


def _weighted_percentile(
    distances: npt.NDArray[np.float64], areas: npt.NDArray[np.float64], share: float = 0.95
) -> float:
    order = np.argsort(distances)
    covered = np.cumsum(areas[order]) / areas.sum()
    return float(distances[order][min(int(np.searchsorted(covered, share)), len(order) - 1)])


def _bounding_box(mask: npt.NDArray[np.bool_]) -> tuple[slice, ...]:
    """Slices of the smallest box holding all of a mask (an empty box for an empty mask)."""
    box = []
    for axis in range(mask.ndim):
        others = tuple(a for a in range(mask.ndim) if a != axis)
        where = np.flatnonzero(mask.any(axis=others))
        box.append(slice(int(where[0]), int(where[-1]) + 1) if len(where) else slice(0, 0))
    return tuple(box)
