"""Volumes unlike the others of their modality: to be looked at, not to be judged by a rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.drawing.charts import number
from medssl.ingest.report.rows import Rows

Array = npt.NDArray[Any]

FEWEST = 8
"""Of fewer volumes of a modality nobody can say what is usual."""
FAR = 6.0
"""Robust standard deviations from the median."""
RARE = 0.1
"""Where more of the volumes are far, they are a second kind, and no exceptions."""
_MAD = 1.4826


@dataclass(frozen=True)
class Odd:
    """A volume that stands out, the farther the greater its score, and in what."""

    volume_id: str
    score: float
    reasons: list[str]


@dataclass(frozen=True)
class _Measure:
    """One number of each volume.

    ``words`` has a place for it; ``scale`` is the number brought where distances mean the same
    everywhere; ``least`` stands in for a spread there that is smaller.
    """

    name: str
    words: str
    shown: Array
    scale: Array
    least: float


def find_odd(manifest: Rows) -> tuple[list[Odd], list[str]]:
    """Volumes whose spacing, size or values lie far from those of their modality.

    The distance is in robust standard deviations (1.4826 times the median absolute deviation, as
    in Iglewicz and Hoaglin 1993) from the median of the volumes of the same modality and number of
    dimensions, where there are at least :data:`FEWEST`. Sizes and spacings are compared by their
    ratio. CT whose values cannot be HU are named in any case.

    Returns:
        the farthest first; and in what a modality is of several kinds, because more than a tenth
        of its volumes lie far.
    """
    found: dict[str, Odd] = {}
    several: list[str] = []
    for modality, dims, rows in manifest.kinds():
        ids = [str(name) for name in rows["volume_id"]]
        scores, reasons = np.zeros(len(ids)), [list[str]() for _ in ids]
        if len(rows) >= FEWEST:
            for measure in _measures(rows, modality, dims):
                share = _judge(measure, scores, reasons)
                if share > RARE:
                    several.append(f"{modality} {dims}D, {measure.name}: {100 * share:.0f} %")
        if modality == "CT":
            _judge_hu(rows, scores, reasons)
        for name, score, told in zip(ids, scores, reasons, strict=True):
            if told:
                found[name] = Odd(name, float(score), told)
    return sorted(found.values(), key=lambda odd: (-odd.score, odd.volume_id)), several


def _measures(rows: Rows, modality: str, dims: int) -> list[_Measure]:
    axes = ("x", "y", "z") if dims == 3 else ("row", "column")
    measures = []
    for column, least, words in (
        ("spacing", 0.04, "voxels of {} mm along"),
        ("shape", 0.06, "{} voxels along"),
    ):
        table = rows.numbers(column)
        for i, axis in enumerate(axes):
            name, told = f"{column} along {axis}", f"{words} {axis}"
            measures.append(_Measure(name, told, table[:, i], np.log(table[:, i]), least))
    if not {"p005", "p500", "p995"} <= set(rows.names):
        return measures
    low, middle, high = (rows.numbers(name) for name in ("p005", "p500", "p995"))
    if modality == "CT":
        percentiles = {"0.5th percentile": low, "median": middle, "99.5th percentile": high}
        return measures + [
            _Measure(f"{name} of values", f"{name} of the values {{}} HU", values, values, 40.0)
            for name, values in percentiles.items()
        ]
    width = high - low
    safe = np.where(width > 0, width, 1.0)
    share = (middle - low) / safe
    return [
        *measures,
        _Measure("span of values", "values span {}", width, np.log(safe), 0.15),
        _Measure("place of the median", "median at {} of the values' span", share, share, 0.06),
    ]


def _judge(measure: _Measure, scores: Array, reasons: list[list[str]]) -> float:
    """Note what is far, where that is rare; the share of volumes that are."""
    middle = np.median(measure.scale)
    distance = np.abs(measure.scale - middle)
    far = distance / max(_MAD * float(np.median(distance)), measure.least)
    share = float((far > FAR).mean())
    if share > RARE:
        return share
    low, high = np.percentile(measure.shown, [10, 90])
    usual = number(low) if number(low) == number(high) else f"{number(low)} to {number(high)}"
    for i in np.flatnonzero(far > FAR):
        scores[i] = max(scores[i], far[i])
        value = number(float(measure.shown[i]))
        told = measure.words.format(value)
        reasons[i].append(f"{told[0].upper()}{told[1:]}; most have {usual}")
    return share


def _judge_hu(rows: Rows, scores: Array, reasons: list[list[str]]) -> None:
    if not {"min", "p995"} <= set(rows.names):
        return
    low, high = rows.numbers("min"), rows.numbers("p995")
    for i in np.flatnonzero((low >= 0) | (high < -200) | (low < -10_000)):
        scores[i] = max(scores[i], FAR)
        ends = f"{number(low[i])} to {number(high[i])}"
        reasons[i].append(f"Values from {ends} are unusual for HU; was the CT rescaled?")
