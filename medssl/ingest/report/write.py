"""The page as a whole, and writing it."""

from __future__ import annotations

import errno
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medssl.drawing.page import (
    Block,
    Card,
    Cards,
    Fact,
    Group,
    Note,
    Report,
    Section,
    Table,
    render,
)
from medssl.errors import MedsslError
from medssl.ingest.report.dataset import dataset_blocks, kinds
from medssl.ingest.report.kept import keep_refusals, kept_refusals
from medssl.ingest.report.odd import FEWEST, Odd, find_odd
from medssl.ingest.report.refused import (
    RejectedGroup,
    counts_of,
    files_blocks,
    refused_blocks,
)
from medssl.ingest.report.rows import Rows, ledger_counts
from medssl.ingest.report.sample import Sample, choose, sample
from medssl.ingest.report.volumes import card
from medssl.store import PAGE_NAME, Store, Volume

MOST_SHOWN, MOST_ODD, MOST_SAMPLED = 60, 12, 300
MOST_BYTES = 8_000_000
"""Of all pictures together; text makes a third more of them."""
_BANNER = (
    "Pictures of patients, under pseudonyms. Keep this page as you keep the scans. "
    "Not for diagnosis."
)
_CONVENTION = (
    "Planes through the middle of the foreground, or where a label map shows most, labels "
    "outlined. **Radiological convention:** the patient's right (R) is on the viewer's left in "
    "axial and coronal planes, the front (A) on the left in sagittal ones. All three planes of a "
    "volume are on one scale, true to its spacing. Two letters mark oblique axes, the nearer "
    "first. The window is shaded in the histogram, whose height is the square root of the counts."
)


def write_report(
    store: Store,
    out: Path,
    *,
    notes: Sequence[str] = (),
    only: Collection[str] | None = None,
) -> None:
    """Write the page of a store: one self-contained HTML file, there whole or not at all.

    It is the same, byte for byte, for the same store and arguments. At most 60 volumes are shown,
    modalities and subjects taking turns, and about 300 looked at for histograms.

    Args:
        store: opened.
        out: the file; one that is there is replaced.
        notes: what the user should know, free of identifiers.
        only: ids of the volumes to show; all where None.

    Raises:
        MedsslError: STORE_CORRUPT where an array is not there or cannot be read; DISK_FULL.
        OSError: the page could not be written for another reason.
    """
    text = render(_page(store, notes, None if only is None else set(only)))
    partial = out.with_name(f".{out.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(out)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise MedsslError("DISK_FULL", "The disk is full", fix="Free space.") from None
        raise
    finally:
        partial.unlink(missing_ok=True)


def page_or_note(
    notes: list[str], store: Store, batch: int = 1, rejected: Sequence[RejectedGroup] = ()
) -> None:
    """Write the page into the store; where that fails the store is no worse for it.

    Args:
        notes: for the page; one is added that says so where it could not be written.
        store: opened.
        batch: the number of the ingest.
        rejected: what it refused together; the store keeps that for pages to come.
    """
    try:
        keep_refusals(store, batch, rejected)
        write_report(store, store.path / PAGE_NAME, notes=notes)
    # Nothing that goes wrong in drawing may cost the store that is there.
    except Exception as error:
        kind = error.code if isinstance(error, MedsslError) else type(error).__name__
        notes.append(
            f"{PAGE_NAME} could not be written ({kind}); the store is complete. Write the page "
            "with `medssl inspect STORE --html FILE`."
        )


def _page(store: Store, notes: Sequence[str], only: set[str] | None) -> Report:
    ledger, whole = ledger_counts(store), Rows.of(store)
    rows = whole if only is None else whole.where("volume_id", lambda name: name in only)
    counts = counts_of(ledger)
    odd, several = find_odd(rows)
    places = choose(rows, MOST_SAMPLED)
    ids = [str(name) for name in rows["volume_id"]]
    chosen = [ids[i] for i in places]
    taken = {name: _look(store, rows.row(i)) for name, i in zip(chosen, places, strict=True)}
    looked, odd_shown = dict(taken), odd[:MOST_ODD]
    for item in odd_shown:
        if item.volume_id not in taken:
            taken[item.volume_id] = _look(store, rows.row(ids.index(item.volume_id)))
    budget = _Budget()
    odd_cards = budget.cards((taken[o.volume_id], o.reasons) for o in odd_shown)
    cards = budget.cards((taken[name], ()) for name in chosen[:MOST_SHOWN])
    part = "" if only is None else f" of {len(whole):,} in the store"
    facts = [
        Fact(f"{sum(counts.values()):,}", "files found"),
        Fact(f"{len(rows):,}", f"volumes{part}"),
        Fact(f"{len(set(rows['subject_id'])):,}", "subjects"),
        Fact(f"{len(set(rows['study_id'])):,}", "studies"),
        Fact(f"{len(set(rows['series_id'])):,}", "series"),
        Fact(f"{len(odd):,}", "volumes that stand out"),
    ]
    files: list[Block] = [Note(note[:600]) for note in notes[:30]]
    names = store.info.label_names
    return Report(
        title="What ingest made",
        subtitle="The files, the data, the volumes in pictures, and what was refused",
        banner=_BANNER,
        facts=facts,
        sections=[
            Section("files", "Files", files + files_blocks(counts, 1 + len(store.info.added_by))),
            Section("refused", "Refused", refused_blocks(ledger, kept_refusals(store))),
            Section("data", "The data", dataset_blocks(rows, names, looked)),
            Section("odd", "What stands out", _odd_blocks(odd, odd_cards, several)),
            Section("volumes", "Volumes", _volume_blocks(chosen, cards, rows)),
            Section("made", "How it was made", _made_blocks(store)),
        ],
        footer="Written by medssl. `medssl inspect STORE` prints and filters the same.",
        dark=True,
    )


def _look(store: Store, row: dict[str, Any]) -> tuple[Volume, Sample]:
    """A volume of its row alone, for a store may have many more; and some of its voxels."""
    volume = Volume(store.path, row)
    try:
        return volume, sample(volume)
    except (OSError, ValueError):
        raise MedsslError(
            "STORE_CORRUPT", "An array of the store cannot be read", where=volume.volume_id
        ) from None


class _Budget:
    """Makes cards until their pictures weigh :data:`MOST_BYTES`."""

    def __init__(self) -> None:
        self._left = MOST_BYTES

    def cards(self, volumes: Iterable[tuple[tuple[Volume, Sample], Sequence[str]]]) -> list[Card]:
        made = []
        for (volume, taken), reasons in volumes:
            if self._left <= 0:
                break
            made.append(card(volume, taken, reasons))
            self._left -= len(made[-1].png or b"")
        return made


def _odd_blocks(odd: Sequence[Odd], cards: Sequence[Card], several: Sequence[str]) -> list[Block]:
    how = (
        "Volumes whose spacing, size or values lie far from those of their modality (more than 6 "
        f"robust standard deviations, where it has at least {FEWEST} volumes). Nothing is wrong "
        "with them by that alone; they are worth a look."
    )
    blocks: list[Block] = [how]
    if several:
        listed = "; ".join(several[:20])
        blocks.append(
            "Where more than a tenth lie far, they are another kind of scan and no exceptions, and "
            f"are not listed: {listed}."
        )
    if not odd:
        return [*blocks, "None stands out."]
    if len(odd) > len(cards):
        blocks.append(f"The farthest {len(cards)} of {len(odd):,}:")
    return [*blocks, Cards(cards)]


def _volume_blocks(shown: Sequence[str], cards: Sequence[Card], rows: Rows) -> list[Block]:
    turns = ", modalities and subjects taking turns" if len(cards) < len(rows) else ""
    blocks: list[Block] = [f"**{len(cards):,} of {len(rows):,} shown**{turns}.", _CONVENTION]
    made = dict(zip(shown, cards, strict=False))
    for name, part in kinds(rows):
        own = [made[key] for key in part["volume_id"] if key in made]
        if own:
            blocks.append(Group(f"{name}: {len(own):,} of {len(part):,}", [Cards(own)]))
    return blocks


def _made_blocks(store: Store) -> list[Block]:
    lines = [[key, _plain(value)[:600]] for key, value in store.info.made_by.items()]
    lines += [["added to", _plain(made)[:600]] for made in store.info.added_by[-20:]]
    return [
        Table(["", ""], lines, "As `store.json` has it.", 2),
        "Fingerprint of the store, over the ids and hashes of all volumes and label maps: "
        f"`{store.fingerprint()}`.",
    ]


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    return json.dumps(value)
