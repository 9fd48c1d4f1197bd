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
    tolerance_mm: float | Mapping[int, float] = 1.0,
) -> dict[int, SegmentationMetrics]:
    """Dice, NSD and HD95 of each class.

    Args:
        prediction: label map (x, y, z) or (row, column), integers.
        truth: label map of the same shape.
        spacing: voxel size in mm, one number per axis.
        classes: label values to score, without the background.
        tolerance_mm: deviation of the surface that counts as right (NSD), or that of each class.

    Raises:
        ValueError: shapes or spacing disagree, a spacing or class is not positive, or a class has
            no tolerance.
    """
    if prediction.shape != truth.shape or len(spacing) != truth.ndim or truth.ndim not in (2, 3):
        raise ValueError(
            f"prediction {prediction.shape}, truth {truth.shape} and spacing of {len(spacing)} "
            "numbers must describe one 2D or 3D grid"
        )
    if isinstance(tolerance_mm, Mapping):
        if set(classes) - set(tolerance_mm):
            raise ValueError(f"classes {sorted(set(classes) - set(tolerance_mm))} lack a tolerance")
        limits = {int(c): float(tolerance_mm[c]) for c in classes}
    else:
        limits = {int(c): float(tolerance_mm) for c in classes}
    if min(spacing) <= 0 or min(limits.values(), default=0) < 0 or any(c <= 0 for c in classes):
        raise ValueError("spacing and classes must be positive and the tolerance not negative")
    step = tuple(float(s) for s in spacing)
    diagonal = float(np.linalg.norm(np.multiply(truth.shape, step)))
    boxes = _boxes(prediction, truth, classes)
    return {
        c: _class_metrics(prediction[box] == c, truth[box] == c, step, limits[c], diagonal)
        for c, box in boxes.items()
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
    found, present = int(np.count_nonzero(prediction)), int(np.count_nonzero(truth))
    if not found and not present:
        return SegmentationMetrics(float("nan"), float("nan"), float("nan"), "both")
    if not found or not present:
        return SegmentationMetrics(0.0, 0.0, diagonal, "truth" if found else "prediction")
    dice = 2.0 * int(np.count_nonzero(prediction & truth)) / (found + present)
    nsd, hd95 = _surface_metrics(prediction, truth, spacing, tolerance_mm)
    return SegmentationMetrics(dice, nsd, hd95)


def _surface_metrics(
    prediction: npt.NDArray[np.bool_],
    truth: npt.NDArray[np.bool_],
    spacing: tuple[float, ...],
    tolerance_mm: float,
) -> tuple[float, float]:
    areas, bits = _areas(spacing)
    codes = [_codes(mask, bits) for mask in (prediction, truth)]
    edges = [_is_edge(code, bits) for code in codes]
    index_a, index_b = (np.nonzero(edge) for edge in edges)
    points_a, points_b = (_centres(index, spacing) for index in (index_a, index_b))
    area_a, area_b = areas[codes[0][index_a]], areas[codes[1][index_b]]
    a_to_b = _distances(points_a, points_b, edges[1][index_a])
    b_to_a = _distances(points_b, points_a, edges[0][index_b])
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
    code = _codes(mask, bits)
    index = np.nonzero(_is_edge(code, bits))
    return _centres(index, spacing), areas[code[index]]


def _codes(mask: npt.NDArray[np.bool_], bits: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Which neighbours of every corner of every voxel are inside; one longer than the mask."""
    padded = np.pad(mask, 1).view(np.uint8)
    code = np.zeros([n - 1 for n in padded.shape], np.uint8)
    for offset in np.ndindex(*bits.shape):
        window = tuple(slice(o, o + n) for o, n in zip(offset, code.shape, strict=True))
        code += padded[window] * bits[offset]
    return code


def _is_edge(code: npt.NDArray[np.uint8], bits: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    edge: npt.NDArray[np.bool_] = (code != 0) & (code != bits.sum(dtype=np.int64))
    return edge


def _centres(
    index: tuple[npt.NDArray[np.int64], ...], spacing: tuple[float, ...]
) -> npt.NDArray[np.float64]:
    # element i lies between voxels i-1 and i of the unpadded mask
    centres: npt.NDArray[np.float64] = (np.stack(index, axis=1) - 0.5) * np.asarray(spacing)
    return centres


def _distances(
    points: npt.NDArray[np.float64],
    others: npt.NDArray[np.float64],
    shared: npt.NDArray[np.bool_],
) -> npt.NDArray[np.float64]:
    """From every point to the nearest of the others; 0 where it is `shared`, one of them."""
    from scipy.spatial import cKDTree

    # unbalanced trees build several times faster on the lattice of surface points
    tree = cKDTree(others, balanced_tree=False, compact_nodes=False)
    distances = np.zeros(len(points))
    distances[~shared] = tree.query(points[~shared])[0]
    return distances


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


def _boxes(
    prediction: npt.NDArray[Any], truth: npt.NDArray[Any], classes: Sequence[int]
) -> dict[int, tuple[slice, ...]]:
    """Slices of the smallest box that holds a class in both maps (empty where neither has it)."""
    from scipy.ndimage import find_objects

    nothing = (slice(0, 0),) * truth.ndim
    if not len(classes):
        return {}
    found = [
        find_objects(labels.astype(np.uint8) if labels.dtype == bool else labels, max(classes))
        for labels in (prediction, truth)
    ]
    boxes = {}
    for c in map(int, classes):
        both = [box for box in (objects[c - 1] for objects in found) if box is not None]
        joined = (
            slice(min(s.start for s in axis), max(s.stop for s in axis))
            for axis in zip(*both, strict=True)
        )
        boxes[c] = tuple(joined) or nothing
    return boxes
