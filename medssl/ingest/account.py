"""The account: every file found ends in exactly one ledger row."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medssl.errors import Exit, MedsslError
from medssl.ingest.pseudonym import Pseudonymizer, write_private
from medssl.ingest.scan import Found
from medssl.store import LedgerRow, Outcome


class Account:
    """Collects what became of each file.

    Args:
        found: every file; each must be marked once.
        names: the pseudonymizer for their paths.
        batch: the number of the ingest into its store.
    """

    def __init__(self, found: Sequence[Found], names: Pseudonymizer, batch: int = 1) -> None:
        self._batch = batch
        self._found = {item.path: item for item in found}
        self._names = names
        self._rows: dict[Path, LedgerRow] = {}
        self._volumes: dict[Path, str] = {}

    def mark(
        self,
        files: Iterable[Path],
        outcome: Outcome,
        code: str = "",
        detail: str = "",
        volume_id: str = "",
        volumes: Sequence[str] = (),
    ) -> None:
        """Give files their row.

        Args:
            volumes: where a file became part of several volumes, their ids: for the private
                ledger alone.

        Raises:
            MedsslError: LEDGER_MISMATCH where a file already has one, or was never found.
        """
        for path in files:
            if path in self._rows or path not in self._found:
                raise MedsslError(
                    "LEDGER_MISMATCH",
                    "A file was accounted for twice, or was never found",
                    fix="This is a bug in medssl; please report it.",
                )
            hidden = self._names.path(self._found[path].relative)
            self._rows[path] = LedgerRow(hidden, outcome, code, detail, volume_id, self._batch)
            self._volumes[path] = " ".join(volumes) or volume_id

    def mark_labels(
        self, files: Iterable[Path], fates: Mapping[str, tuple[str, str, str]], first: str | None
    ) -> None:
        """Give label objects their rows.

        Args:
            files: label objects of one image.
            fates: path -> code ("" where it was used), detail and volume; of an image that could
                not be used, none.
            first: the volume that the image is a duplicate of, or None.
        """
        for path in files:
            none = ("LABEL_WITHOUT_IMAGE", "Its image could not be used", "")
            code, detail, volume_id = fates.get(str(path), none)
            if first is not None:
                detail = "of an image that is there already"
                self.mark([path], Outcome.DUPLICATE, "DUPLICATE", detail, first)
            elif code:
                self.mark([path], Outcome.REJECTED, code, detail)
            else:
                self.mark([path], Outcome.USED, "", detail, volume_id)

    @property
    def rows(self) -> list[LedgerRow]:
        """The ledger, in the order of the files."""
        return [self._rows[path] for path in self._found if path in self._rows]

    def counts(self) -> dict[tuple[str, str], int]:
        """How many files by outcome and code, sorted."""
        counts = Counter((row.outcome.value, row.code) for row in self._rows.values())
        return dict(sorted(counts.items()))

    def with_code(self, code: str) -> list[tuple[str, str]]:
        """Real paths relative to IN, and details, of the files rejected with a code, whole or in
        part."""
        return [
            (item.relative, self._rows[path].detail)
            for path, item in self._found.items()
            if path in self._rows and self._rows[path].code == code
        ]

    def write_private(
        self, folder: Path, details: Mapping[Path, tuple[int, int, str]] | None = None
    ) -> Path:
        """Write the ledger with the real paths, for the site's own eyes; never over another.

        Args:
            folder: where.
            details: of each file its size, when it was changed (ns), and its series' pseudonym.

        Returns:
            its path: ``ledger.csv``, or ``ledger-2.csv``, ... where that is taken by another.
        """
        buffer = io.StringIO()
        table = csv.writer(buffer)
        names = ["path", "outcome", "code", "detail", "volume_id", "batch"]
        table.writerow(["real_path", *names, "size", "modified", "series", "volumes"])
        for path, item in self._found.items():
            if path in self._rows:
                row = vars(self._rows[path])
                more = (details or {}).get(path, ("", "", ""))
                table.writerow(
                    [item.relative, *(str(row[name]) for name in names), *more, self._volumes[path]]
                )
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        text, target, number = buffer.getvalue(), folder / "ledger.csv", 2
        while target.exists():
            if target.read_bytes() == text.encode("utf-8", "surrogateescape"):
                return target  # this ingest wrote it before it was interrupted
            target, number = folder / f"ledger-{number}.csv", number + 1
        write_private(target, text)
        return target


@dataclass(frozen=True)
class IngestSummary:
    """How an ingest ended.

    Attributes:
        found: number of files found; the counts and ``known`` add up to it.
        volumes: number of volumes in the store.
        subjects: number of subjects in the store.
        known: number of files that an earlier ingest into the store had accounted for.
        added: number of volumes that this ingest added.
        counts: files by (outcome, code).
        notes: what the user should know, free of identifiers.
        store: the store, or None where nothing was usable.
        private: the folder of the key and the private ledger.
        incomplete: whether something named by a table or archive is not in the store.
    """

    found: int
    volumes: int
    subjects: int
    counts: dict[tuple[str, str], int]
    notes: list[str] = field(default_factory=list)
    store: Path | None = None
    private: Path | None = None
    incomplete: bool = False
    known: int = 0
    added: int = 0

    @property
    def exit_code(self) -> Exit:
        """0 all used or ignored, 3 some rejected, 4 nothing usable."""
        if self.store is None:
            return Exit.NOTHING_USABLE
        rejected = any(outcome == Outcome.REJECTED.value for outcome, _ in self.counts)
        return Exit.SOME_REJECTED if rejected or self.incomplete else Exit.DONE

    def as_json(self) -> dict[str, Any]:
        """For machines: plain types only."""
        return {
            "found": self.found,
            "known": self.known,
            "volumes": self.volumes,
            "added": self.added,
            "subjects": self.subjects,
            "counts": [
                {"outcome": outcome, "code": code, "files": count}
                for (outcome, code), count in self.counts.items()
            ],
            "notes": self.notes,
            "store": None if self.store is None else self.store.name,
            "exit_code": int(self.exit_code),
        }
