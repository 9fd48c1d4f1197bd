"""What the data set is: modalities, grids, values, scanners, labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medssl.drawing.charts import differ, histogram, number
from medssl.drawing.page import Block, Chart, Group, Table
from medssl.errors import CODES
from medssl.ingest.report.rows import Rows
from medssl.ingest.report.sample import Sample
from medssl.ingest.report.volumes import PLACELESS, spread
from medssl.store import Volume
from medssl.store.records import LABEL_PREFIX

MOST_GROUPS = 24
MOST_VALUES = 12
_SOURCES = ("manufacturer", "model", "scanner", "site", "body_part", "source")
_AXES = {3: ("x", "y", "z"), 2: ("row", "column")}

Taken = Mapping[str, tuple[Volume, Sample]]


def kinds(rows: Rows) -> list[tuple[str, Rows]]:
    """The rows of each modality and number of dimensions, the most volumes first."""
    groups = [(f"{modality} {dims}D", part) for modality, dims, part in rows.kinds()]
    return sorted(groups, key=lambda group: -len(group[1]))


def dataset_blocks(manifest: Rows, label_names: Mapping[int, str], taken: Taken) -> list[Block]:
    """The fingerprint of the data.

    Args:
        manifest: rows of the volumes; only the columns that are there are spoken of.
        label_names: names of label values.
        taken: volumes that were looked at, and some of their voxels.
    """
    groups = kinds(manifest)
    blocks: list[Block] = [_overview(groups)]
    for name, rows in groups[:MOST_GROUPS]:
        blocks.append(Group(name, _group(name, rows, taken)))
    if len(groups) > MOST_GROUPS:
        blocks.append(f"{len(groups) - MOST_GROUPS} further kinds of image are left out here.")
    blocks += _sources(manifest)
    blocks += _labels(manifest, label_names, taken)
    blocks += _defects(manifest)
    return blocks


def _overview(groups: Sequence[tuple[str, Rows]]) -> Table:
    rows = []
    for name, part in groups:
        each = Counter(part["subject_id"]).values()
        low, high = min(each), max(each)
        numbers = [len(part), len(each), len(set(part["series_id"])), _labelled(part)]
        spreading = f"{low}" if low == high else f"{low} to {high}"
        rows.append([name, *(f"{n:,}" for n in numbers), spreading])
    header = ["Kind", "Volumes", "Subjects", "Series", "Labelled", "Volumes per subject"]
    return Table(header, rows[:MOST_GROUPS], "Volumes by modality and number of dimensions.")


def _group(name: str, rows: Rows, taken: Taken) -> list[Block]:
    dims = int(rows["dims"][0])
    lines: list[list[str | Chart]] = []
    stated = "source" not in rows.names or not set(rows["source"]) <= set(PLACELESS)
    millimetres = "mm" if stated else "unknown"
    for title, column, unit in (
        ("Voxels along", "shape", ""),
        ("Spacing along", "spacing", millimetres),
    ):
        for axis, along in zip(rows.numbers(column).T, _AXES.get(dims, range(dims)), strict=True):
            lines.append(_line(f"{title} {along}", axis, unit))
    unit = "HU" if name.startswith("CT ") else ""
    for column, title in (
        ("p005", "0.5th percentile"),
        ("p500", "Median"),
        ("p995", "99.5th percentile"),
    ):
        if column in rows.names:
            lines.append(_line(f"{title} of values", rows.numbers(column), unit))
    header = ["", "Smallest", "10 %", "Middle", "90 %", "Largest", "Unit", "Spread"]
    many = "1 volume" if len(rows) == 1 else f"{len(rows):,} volumes"
    blocks: list[Block] = [
        Table(header, lines, f"{name}, {many}. Bars run from smallest to largest."),
    ]
    ids = set(rows["volume_id"])
    looked = {key: pair for key, pair in taken.items() if key in ids}
    values_of = spread(name.split()[0], looked, len(rows))
    if values_of is not None:
        blocks.append(Chart(values_of.svg, values_of.caption))
    return blocks


def _line(name: str, values: np.ndarray[Any, Any], unit: str) -> list[str | Chart]:
    low, high = float(values.min()), float(values.max())
    bars: str | Chart = "all the same" if len(values) > 1 else ""
    if differ(low, high):
        counts, _ = np.histogram(values, bins=40, range=(low, high))
        bars = Chart(histogram(counts, low, high, title=name, size=(160, 20), ends=False))
    quantiles = [number(v) for v in np.percentile(values, [0, 10, 50, 90, 100])]
    return [name, *quantiles, unit, bars]


def _sources(manifest: Rows) -> list[Block]:
    rows = []
    for column in _SOURCES:
        if column not in manifest.names:
            continue
        counts = Counter("" if v is None else str(v) for v in manifest[column])
        order = sorted(counts.items(), key=lambda pair: (-pair[1], str(pair[0])))
        for value, count in order[:MOST_VALUES]:
            rows.append([_words(column), str(value)[:60] or "not stated", f"{count:,}"])
        if len(order) > MOST_VALUES:
            rest = sum(count for _, count in order[MOST_VALUES:])
            rows.append([_words(column), f"{len(order) - MOST_VALUES} others", f"{rest:,}"])
    if not rows:
        return []
    return [Group("Where they come from", [Table(["", "", "Volumes"], rows, "As stated.", 2)])]


def _words(column: str) -> str:
    return column.replace("_", " ").capitalize()


def _labels(manifest: Rows, names: Mapping[int, str], taken: Taken) -> list[Block]:
    blocks: list[Block] = []
    maps = [found.labels for _, found in taken.values() if found.labels]
    labelled = _labelled(manifest)
    if maps:
        values = sorted({value for found in maps for value in found})
        rows = []
        for value in values[: 4 * MOST_VALUES]:
            part = [found[value] / sum(found.values()) for found in maps if value in found]
            name = "background" if value == 0 else names.get(value, f"label {value}")
            share = 100 * sum(part) / len(maps)
            rows.append([str(value), name[:60], f"{len(part):,}", f"{share:.3g} %"])
        text = (
            f"Label maps: in how many of {len(maps):,} volumes looked at (of {labelled:,} "
            "labelled) a value occurs, and its mean share of the voxels, of a sample."
        )
        header = ["Value", "Name", "Volumes", "Share of voxels"]
        blocks.append(Table(header, rows, text, 2))
    rows = []
    for column in (name for name in manifest.names if name.startswith(LABEL_PREFIX)):
        known = [_plain(v) for v in manifest[column] if v is not None and v == v]
        counts = sorted(Counter(known).items(), key=lambda pair: (-pair[1], pair[0]))
        listed = ", ".join(f"{value} ({count:,})" for value, count in counts[:MOST_VALUES])
        more = f" and {len(counts) - MOST_VALUES} more" if len(counts) > MOST_VALUES else ""
        rows.append([column.removeprefix(LABEL_PREFIX)[:60], listed + more, f"{len(known):,}"])
    if rows:
        blocks.append(
            Table(["Label", "Values", "Volumes"], rows[:40], "Labels of whole volumes.", 2)
        )
    return [Group("Labels", blocks)] if blocks else []


def _labelled(rows: Rows) -> int:
    return sum(map(bool, rows["label_array"])) if "label_array" in rows.names else 0


def _defects(manifest: Rows) -> list[Block]:
    if "defects" not in manifest.names:
        return []
    counts = Counter(code for codes in manifest["defects"] for code in codes or ())
    rows = [
        [str(code), f"{count:,}", CODES[code].meaning if code in CODES else ""]
        for code, count in sorted(counts.items())
    ]
    if not rows:
        return []
    table = Table(["Code", "Volumes", "Meaning"], rows, "Defects that were accepted.", 9)
    return [Group("Accepted defects", [table])]


def _plain(value: Any) -> str:
    """A label's value; a whole number that a gap in its column made a float is whole again."""
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value) if whole else value)[:30]
