"""From slice positions to one affine, or a typed refusal. Pure functions, no files.

DICOM PS3.3 C.7.6.2.1.1 (equation C.7.6.2.1-1): pixel (column i, row j) of a slice lies at
``position + row_direction * column_spacing * i + column_direction * row_spacing * j`` in the
patient's LPS millimetres. medssl stacks slices along the normal ``row x column`` and turns LPS
into RAS by negating the first two rows. A stack may be sheared, by one angle, as by a tilted
gantry; with leave, it may be unevenly spaced.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import MedsslError

Array = npt.NDArray[Any]

ORTHONORMAL_TOLERANCE = 1e-3
"""How far the two direction vectors may be from unit length and from perpendicular."""
ORIENTATION_TOLERANCE = 1e-3
"""How far direction cosines may differ within a series."""
PIXEL_SPACING_TOLERANCE = 1e-4
"""How far pixel spacings may differ within a series, relative."""
SAME_POSITION_MM = 1e-3
"""Slices closer than this lie at one position."""
GAP_TOLERANCE = 0.01
"""How far a gap may be from the mean gap, relative."""
GAP_TOLERANCE_MM = 1e-3
"""What is allowed beside it for positions written with few digits."""
DRIFT_TOLERANCE = 0.05
"""How far a slice may be from its place on an even grid, relative to the gap."""
TILT_TOLERANCE = 1e-3
"""Sideways movement per millimetre along the normal (the tangent of the tilt)."""
MOST_TILT = 45.0
"""Degrees; no gantry tilts further, and slices that move more sideways are no stack."""
STATED_TILT_TOLERANCE = 0.5
"""How far Gantry/Detector Tilt (0018,1120), a nominal angle, may be from that of the positions."""
LIKE_MISSING = 0.1
"""How close, relative, a gap may come to several times its neighbour before a slice is missing."""
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class SlicePose:
    """Where one slice lies.

    Attributes:
        orientation: six direction cosines, of the row then of the column, LPS.
        position: centre of the first pixel, LPS mm.
        pixel_spacing: distance between rows, then between columns, mm (PS3.3 10.7.1.3).
        shape: (rows, columns).
    """

    orientation: tuple[float, ...]
    position: tuple[float, ...]
    pixel_spacing: tuple[float, ...]
    shape: tuple[int, int]


@dataclass(frozen=True)
class Stack:
    """An accepted stack.

    Attributes:
        order: indices of the slices along the normal, ascending.
        affine: 4x4 float64, voxel (column, row, slice) to RAS mm; sheared where there is a tilt.
        spacing: mean distance between slices, mm.
        tilt: angle between normal and stacking direction, degrees; 0 where they are one.
        positions: mm along the normal from the first slice, where spacing is uneven, else empty;
            then the third axis of the affine is one mm along the normal.
    """

    order: list[int]
    affine: Array
    spacing: float
    tilt: float = 0.0
    positions: tuple[float, ...] = ()


def stack(
    poses: Sequence[SlicePose],
    declared: float | None = None,
    thickness: float | None = None,
    allow: Collection[str] = (),
) -> Stack:
    """Order slices in space and give their common affine.

    Args:
        poses: two slices or more, in any order.
        declared: Spacing Between Slices (0018,0088), mm, where stated. Positions decide; it only
            serves to notice that every second slice is gone.
        thickness: Slice Thickness (0018,0050), mm, where stated.
        allow: SPACING_UNEVEN, to accept uneven gaps of which none looks like a missing slice.

    Raises:
        MedsslError: SHAPE_MIXED, SPACING_INVALID, ORIENTATION_INVALID, ORIENTATION_MIXED,
            DICOM_TAG_INVALID, TIME_SERIES_UNSUPPORTED, SLICE_DUPLICATE, GANTRY_TILT,
            SLICE_MISSING, SPACING_UNEVEN, SPACING_UNKNOWN.
    """
    if len(poses) < 2:
        raise MedsslError("SPACING_UNKNOWN", "One slice alone does not tell the slice spacing")
    check_plane(poses)
    orientation = np.asarray(poses[0].orientation, dtype=np.float64)
    row, column = orientation[:3], orientation[3:]
    normal = np.cross(row, column)
    normal /= np.linalg.norm(normal)
    positions = np.array([pose.position for pose in poses], dtype=np.float64)
    heights = positions @ normal
    order = [int(i) for i in np.argsort(heights, kind="stable")]
    _check_repeats(heights[order])
    positions = positions[order]
    tilt = _tilt(positions, normal)
    even = _check_gaps(np.diff(heights[order]), declared, thickness, allow)
    along = heights[order] - heights[order][0]
    span = positions[-1] - positions[0]
    step = span / (len(order) - 1 if even else along[-1])
    if not tilt and not even:
        step = normal
    matrix = np.eye(4)
    between_rows, between_columns = poses[0].pixel_spacing
    matrix[:3, 0] = row * between_columns
    matrix[:3, 1] = column * between_rows
    matrix[:3, 2] = step
    matrix[:3, 3] = positions[0]
    spacing = float(np.linalg.norm(span)) / (len(order) - 1)
    places = () if even else tuple(along.tolist())
    return Stack(order, LPS_TO_RAS @ matrix, spacing, tilt, places)


def check_stated_tilt(tilt: float, stated: Collection[float]) -> None:
    """Compare the tilt of the positions with what headers state, in magnitude: makers differ in
    which way is positive.

    Args:
        tilt: of a :class:`Stack`, degrees.
        stated: Gantry/Detector Tilt of its slices, degrees; empty where none states one.

    Raises:
        MedsslError: GANTRY_TILT.
    """
    if any(not abs(abs(angle) - tilt) <= STATED_TILT_TOLERANCE for angle in stated):
        found = f"the positions {tilt:.2f}" if tilt else "the positions none"
        raise MedsslError("GANTRY_TILT", f"The header states another tilt than {found} degrees")


def check_plane(poses: Sequence[SlicePose]) -> None:
    """Check what slices must share: size, pixel spacing, orientation.

    Raises:
        MedsslError: as :func:`stack`.
    """
    if len({pose.shape for pose in poses}) > 1:
        raise MedsslError("SHAPE_MIXED", "The slices differ in rows or columns")
    spacing = check_spacing(poses)
    if (np.abs(spacing / spacing[0] - 1) > PIXEL_SPACING_TOLERANCE).any():
        raise MedsslError("SHAPE_MIXED", "The slices differ in pixel spacing")
    cosines = np.array([pose.orientation for pose in poses], dtype=np.float64)
    positions = np.array([pose.position for pose in poses], dtype=np.float64)
    if not np.isfinite(cosines).all() or not np.isfinite(positions).all():
        raise MedsslError("DICOM_TAG_INVALID", "A position or orientation is not a number")
    rows, columns = cosines[:, :3], cosines[:, 3:]
    lengths = np.linalg.norm(np.stack([rows, columns]), axis=-1)
    slant = np.abs((rows * columns).sum(axis=1))
    if (np.abs(lengths - 1) > ORTHONORMAL_TOLERANCE).any() or (slant > ORTHONORMAL_TOLERANCE).any():
        raise MedsslError("ORIENTATION_INVALID", "The direction cosines are not orthonormal")
    if (np.abs(cosines - cosines[0]) > ORIENTATION_TOLERANCE).any():
        raise MedsslError("ORIENTATION_MIXED", "The slices differ in orientation")


def check_spacing(poses: Sequence[SlicePose]) -> Array:
    """The pixel spacings, float64 (slice, 2).

    Raises:
        MedsslError: SPACING_INVALID.
    """
    spacing = np.array([pose.pixel_spacing for pose in poses], dtype=np.float64)
    if not np.isfinite(spacing).all() or (spacing <= 0).any():
        raise MedsslError("SPACING_INVALID", "A pixel spacing is zero, negative or not a number")
    return spacing


def places(poses: Sequence[SlicePose]) -> list[int]:
    """Which position along the normal each slice has: 0 for the lowest, equal for slices that lie
    within :data:`SAME_POSITION_MM` of the next.

    Args:
        poses: one or more that :func:`check_plane` accepts.
    """
    orientation = np.asarray(poses[0].orientation, dtype=np.float64)
    normal = np.cross(orientation[:3], orientation[3:])
    heights = np.array([pose.position for pose in poses], dtype=np.float64) @ normal
    order = np.argsort(heights, kind="stable")
    result = np.empty(len(poses), dtype=np.int64)
    result[order] = _numbered(heights[order])
    return [int(place) for place in result]


def _numbered(heights: Array) -> Array:
    """Ascending heights -> 0, 1, ... by position."""
    return np.concatenate([[0], np.cumsum(np.diff(heights) > SAME_POSITION_MM)])


def _check_repeats(heights: Array) -> None:
    """``heights`` ascending: every position once, or a refusal that says which kind of repeat."""
    counts = Counter(_numbered(heights).tolist())
    if max(counts.values()) == 1:
        return
    if len(set(counts.values())) == 1:
        times = next(iter(counts.values()))
        raise MedsslError(
            "TIME_SERIES_UNSUPPORTED",
            f"{len(counts)} positions are there {times} times and no tag tells volumes apart",
        )
    doubled = sum(count > 1 for count in counts.values())
    raise MedsslError("SLICE_DUPLICATE", f"{doubled} of {len(counts)} positions are there again")


def _tilt(positions: Array, normal: Array) -> float:
    """Degrees between normal and stacking direction, 0 within tolerance.

    Slices must move sideways in proportion to their height, or the stack is refused.
    """
    moved = positions - positions[0]
    along = moved @ normal
    sideways = moved - along[:, None] * normal
    limit = TILT_TOLERANCE * along + GAP_TOLERANCE_MM
    if (np.linalg.norm(sideways, axis=1) <= limit).all():
        return 0.0
    shear = sideways[-1] / along[-1]
    tilt = float(np.degrees(np.arctan(np.linalg.norm(shear))))
    if (np.linalg.norm(sideways - along[:, None] * shear, axis=1) > limit).any():
        raise MedsslError("GANTRY_TILT", "The slices are shifted sideways unevenly")
    if tilt > MOST_TILT:
        raise MedsslError("GANTRY_TILT", f"The slices are sheared by {tilt:.2f} degrees")
    return tilt


def _check_gaps(
    gaps: Array, declared: float | None, thickness: float | None, allow: Collection[str]
) -> bool:
    """Whether the gaps are even; refused where a slice is missing, or they are not and may not."""
    mean = float(gaps.mean())
    grid = np.arange(1, len(gaps) + 1) * mean
    jump = bool((np.abs(gaps - mean) > GAP_TOLERANCE * mean + GAP_TOLERANCE_MM).any())
    drift = bool((np.abs(np.cumsum(gaps) - grid) > DRIFT_TOLERANCE * mean).any())
    if jump:
        _check_missing(gaps)
    if (jump or drift) and "SPACING_UNEVEN" not in allow:
        ends = f"{gaps.min():.3f} and {gaps.max():.3f} mm"
        raise MedsslError("SPACING_UNEVEN", f"Slices are between {ends} apart")
    _check_declared(float(gaps.min()) if jump else mean, declared, thickness)
    return not (jump or drift)


def _check_missing(gaps: Array) -> None:
    """Refuse gaps of which one could hold another slice."""
    times = gaps / gaps.min()
    if (np.abs(times - np.rint(times)) <= GAP_TOLERANCE * np.rint(times)).all():
        missing = int(np.rint(times).sum()) - len(gaps)
        raise MedsslError("SLICE_MISSING", f"{missing} slices are missing between others")
    beside = np.stack([np.append(gaps[1:], np.inf), np.append(np.inf, gaps[:-1])]).min(axis=0)
    times = gaps / beside
    like = np.abs(times - np.rint(times)) <= LIKE_MISSING * np.rint(times)
    if (like & (np.rint(times) >= 2)).any():
        raise MedsslError("SLICE_MISSING", "A gap is several times as wide as the next one")


def _check_declared(gap: float, declared: float | None, thickness: float | None) -> None:
    """Refuse a gap that is several times the declared one."""
    # Some makers write the gap between slices' faces here; then it is smaller than the slice.
    if declared is None or not np.isfinite(declared) or declared <= 0:
        return
    if thickness is not None and declared < (1 - GAP_TOLERANCE) * thickness:
        return
    ratio = gap / declared
    if round(ratio) >= 2 and abs(ratio - round(ratio)) <= GAP_TOLERANCE * ratio:
        raise MedsslError(
            "SLICE_MISSING", f"Slices are {gap:.3f} mm apart and should be {declared:.3f} mm"
        )
