"""What became of the files, and what was refused and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medssl.drawing import charts, montage
from medssl.drawing.page import Block, Card, Cards, Chart, Group, Table
from medssl.errors import CODES
from medssl.ingest.report.advice import advice
from medssl.store import Outcome

MOST_DETAILS = 12
MOST_THUMBNAILS = 60
_TEXT = 200
THUMBNAIL_SIDE = 128


@dataclass(frozen=True)
class RejectedGroup:
    """Files that were refused together, such as a series.

    Attributes:
        code: of the refusal.
        detail: more about it, free of identifiers.
        files: how many.
        thumbnail: (row, column) uint8 of one of its images, as
            :func:`medssl.ingest.thumbnail.thumbnail` makes it, or None.
    """

    code: str
    detail: str
    files: int
    thumbnail: npt.NDArray[np.uint8] | None = None


Counts = Mapping[tuple[str, str, str], int]
"""Files by outcome, code and detail."""


def counts_of(ledger: Counts) -> dict[tuple[str, str], int]:
    """Files by outcome and code: used, duplicate, rejected, ignored, then by code."""
    sums: Counter[tuple[str, str]] = Counter()
    for (outcome, code, _), files in ledger.items():
        sums[outcome, code] += files
    order = [outcome.value for outcome in Outcome]
    keys = sorted(sums, key=lambda key: (order.index(key[0]), key[1]))
    return {key: sums[key] for key in keys}


def files_blocks(counts: Mapping[tuple[str, str], int], ingests: int = 1) -> list[Block]:
    """How many files met which fate; the numbers add up to the files found.

    Args:
        counts: files by outcome and code.
        ingests: how many made the store.
    """
    by_outcome = [
        (outcome.value, sum(n for (name, _), n in counts.items() if name == outcome.value))
        for outcome in Outcome
    ]
    total = sum(counts.values())
    rows = [
        [outcome, code, f"{n:,}", CODES[code].meaning if code in CODES else ""]
        for (outcome, code), n in counts.items()
    ]
    rows.append(["found in all", "", f"{total:,}", ""])
    sums = " + ".join(f"{n:,} {name}" for name, n in by_outcome)
    told = "Every file found is in the ledger once"
    if ingests > 1:
        told = f"Files of {ingests} ingests; one that was read again is in the ledger again"
    return [
        f"{told}: {sums} = **{total:,} files**.",
        Chart(charts.shares(by_outcome)),
        Table(
            ["Outcome", "Code", "Files", "Meaning"], rows, "The ledger.", 9, (len(rows) - 1,)
        ),
    ]  # fmt: skip


def refused_blocks(ledger: Counts, groups: Sequence[RejectedGroup]) -> list[Block]:
    """Each code with what it means, what to do, its details and pictures.

    Args:
        ledger: files by outcome, code and detail.
        groups: files that were refused together, where that is known.
    """
    details: dict[str, dict[str, int]] = {}
    for (outcome, code, detail), files in ledger.items():
        if outcome == Outcome.REJECTED.value:
            details.setdefault(code, {})[detail] = files
    if not details:
        return ["No file was refused."]
    blocks: list[Block] = []
    shown = _spread_over_codes([group for group in groups if group.thumbnail is not None])
    counts = {code: sum(found.values()) for code, found in details.items()}
    for code, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])):
        own = [group for group in groups if group.code == code]
        many = f"{count:,} {'file' if count == 1 else 'files'}"
        known = sum(group.files for group in own) == count
        title = f"{code}: {many}" + (f" in {len(own):,} groups" if known and len(own) > 1 else "")
        inner: list[Block] = [CODES[code].meaning] if code in CODES else []
        if advice(code):
            inner.append(f"**What to do:** {advice(code)}")
        inner.append(_details(details[code]))
        pictures = [group for group in shown if group.code == code]
        if pictures:
            inner.append(Cards([_card(group) for group in pictures], small=True))
        blocks.append(Group(title, inner))
    pictured = sum(group.thumbnail is not None for group in groups)
    if pictured > len(shown):
        blocks.append(f"{len(shown)} of {pictured:,} pictures are shown.")
    blocks.append(
        "Which files these are stands in `STORE.private/ledger.csv`, the one place with real paths."
    )
    return blocks


def _details(found: Mapping[str, int]) -> Block:
    counts = sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))
    lines = [[text[:_TEXT] or "no more is known", f"{n:,}"] for text, n in counts]
    if len(lines) == 1:
        return f"What was found: {lines[0][0]}."
    if len(lines) > MOST_DETAILS:
        rest = sum(n for _, n in counts[MOST_DETAILS:])
        more = f"{len(lines) - MOST_DETAILS:,} other details"
        lines = [*lines[:MOST_DETAILS], [more, f"{rest:,}"]]
    return Table(["Detail", "Files"], lines, "What was found.")


def _spread_over_codes(groups: Sequence[RejectedGroup]) -> list[RejectedGroup]:
    """At most :data:`MOST_THUMBNAILS`, the codes taking turns."""
    turns: Counter[str] = Counter()
    ranked = []
    for place, group in enumerate(groups):
        ranked.append((turns[group.code], place, group))
        turns[group.code] += 1
    return [group for _, _, group in sorted(ranked, key=lambda item: item[:2])[:MOST_THUMBNAILS]]


def _card(group: RejectedGroup) -> Card:
    assert group.thumbnail is not None
    picture = group.thumbnail
    step = max(1, -(-max(picture.shape) // THUMBNAIL_SIDE))
    many = "1 file" if group.files == 1 else f"{group.files:,} files"
    return Card(
        title=many,
        lines=[group.detail[:_TEXT]],
        png=montage.png(montage.thumbnail(picture[::step, ::step])),
        alt=f"One image of a refused series, {group.code}",
    )
