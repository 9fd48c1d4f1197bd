"""What a store has from earlier ingests, so that adding to it reads only what is new.

The store's own tables are pseudonymous; which file on disk is which row, the private ledger beside
it tells. Both are needed, and the key that ties them.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medssl.errors import MedsslError
from medssl.ingest.completeness import COLUMNS, Extent
from medssl.ingest.headers import Refused, SliceHeader
from medssl.ingest.pseudonym import Pseudonymizer
from medssl.ingest.scan import Listed
from medssl.store import Outcome, Store

_TABLES = ("manifest.parquet", "ledger.parquet", "store.json")


@dataclass(frozen=True)
class Known:
    """A file that an earlier ingest accounted for.

    Attributes:
        size: in bytes, as text.
        modified: when it was changed, nanoseconds, as text.
        outcome: what became of it.
        series: pseudonym of its series, "" where it has none.
    """

    size: str
    modified: str
    outcome: str
    series: str

    def is_same(self, item: Listed) -> bool:
        """Whether a file is still as it was."""
        return (self.size, self.modified) == (str(item.size), str(item.modified))


@dataclass(frozen=True)
class Earlier:
    """Earlier ingests into a store.

    Attributes:
        store: its tables as they were before this ingest.
        known: its files, by path relative to the IN of their ingest.
        batch: the number of the ingest that adds to it.
    """

    store: Store
    known: dict[str, Known]
    batch: int

    @classmethod
    def read(cls, store: Path, copies: Path, private: Path, names: Pseudonymizer) -> Earlier:
        """Read a store's tables; from copies, once these were made, so that an ingest which was
        killed while it replaced the tables starts from the same ones again.

        Args:
            store: the store.
            copies: a folder for copies of its tables.
            private: the folder of the private ledgers.
            names: with the key the store was made with.

        Raises:
            MedsslError: PRIVATE_MISSING, KEY_INVALID, STORE_INVALID, STORE_FORMAT.
        """
        if not copies.exists():
            Store.open(store)
            partial = copies.with_name(copies.name + ".new")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            for name in _TABLES:
                shutil.copyfile(store / name, partial / name)
            partial.rename(copies)
        before = Store.open(copies)
        ledger = before.ledger
        rows = zip(*(ledger[c] for c in ("path", "batch", "outcome", "volume_id")), strict=True)
        return cls(before, _known(private, set(rows), names), int(ledger["batch"].max()) + 1)

    def new(self, listed: Sequence[Listed]) -> list[Listed]:
        """The files that no earlier ingest has seen as they are now."""
        return [item for item in listed if not self._is_known(item)]

    def again(
        self,
        listed: Sequence[Listed],
        slices: Mapping[Path, list[SliceHeader] | Refused],
        names: Pseudonymizer,
    ) -> list[Listed]:
        """Files that were refused and whose series has new ones: the two may be whole together.

        Args:
            listed: every file.
            slices: of the new ones.
            names: the pseudonymizer.
        """
        series = {series_of(found, names) for found in slices.values()} - {""}
        return [
            item
            for item in listed
            if self._is_known(item)
            and self.known[item.relative].outcome == Outcome.REJECTED.value
            and self.known[item.relative].series in series
        ]

    def extents(
        self, slices: Mapping[Path, list[SliceHeader] | Refused], names: Pseudonymizer
    ) -> list[Extent]:
        """Where the store's volumes lie that are of the same studies as new files.

        Args:
            slices: of the new files.
            names: the pseudonymizer.
        """
        found = (one[0].study_uid for one in slices.values() if not isinstance(one, Refused))
        studies = {names.study(uid) for uid in {*found} - {""}}
        rows = self.store.rows(COLUMNS) if studies else ()
        some = (Extent.of_row(row) for row in rows if row["study_id"] in studies)
        return [extent for extent in some if extent is not None]

    def _is_known(self, item: Listed) -> bool:
        known = self.known.get(item.relative)
        return known is not None and known.is_same(item)


def series_of(found: list[SliceHeader] | Refused, names: Pseudonymizer) -> str:
    """The pseudonym of a DICOM file's series, "" where that could not be read."""
    uid = found.series_uid if isinstance(found, Refused) else found[0].series_uid
    return names.series(uid) if uid else ""


def _known(private: Path, rows: set[tuple[Any, ...]], names: Pseudonymizer) -> dict[str, Known]:
    """Rows of the private ledgers that are also the store's; later ledgers over earlier ones."""
    known: dict[str, Known] = {}
    count = 0
    for path in sorted(private.glob("ledger*.csv"), key=lambda path: (len(path.name), path.name)):
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
            for row in csv.DictReader(stream):
                batch = int(row.get("batch") or 1)
                if (row["path"], batch, row["outcome"], row["volume_id"]) not in rows:
                    continue
                if names.path(row["real_path"]) != row["path"]:
                    raise MedsslError(
                        "KEY_INVALID",
                        "The site key is not the one that the store was made with",
                        where="--key-file",
                    )
                fields = (row.get(name) or "" for name in ("size", "modified", "outcome", "series"))
                known[row["real_path"]] = Known(*fields)
                count += 1
    if not count:
        raise MedsslError(
            "PRIVATE_MISSING",
            "The private ledger of the store is not beside it",
            where=private.name,
            fix="Put STORE.private back, or ingest everything into a new store.",
        )
    return known
