"""From a pseudonym back to the site's own files, with the private ledger and its key."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from medssl.errors import MedsslError
from medssl.ingest.pseudonym import Pseudonymizer, load_key
from medssl.store import Store


def reidentify(store: Path, pseudonym: str, private: Path, key_file: Path) -> list[str]:
    """The files that a volume, or all volumes of a subject, study or series, were made of.

    Args:
        store: the store.
        pseudonym: an id of its manifest: ``vol-...``, ``sub-...``, ``stu-...``, ``ser-...``.
        private: the folder of its private ledgers.
        key_file: the site key.

    Returns:
        paths relative to IN of the ingest, as they are, sorted.

    Raises:
        MedsslError: KEY_INVALID, KEY_MISMATCH (the key did not make the pseudonyms of the
            ledger), INPUT_MISSING (no private ledger), VOLUME_UNKNOWN, and what opening a store
            raises.
    """
    names = Pseudonymizer(load_key(key_file, create=False))
    manifest = Store.open(store).manifest
    columns = ["volume_id", "subject_id", "study_id", "series_id"]
    volumes = set(manifest["volume_id"][(manifest[columns] == pseudonym).any(axis=1)])
    ledgers = sorted(private.glob("ledger*.csv"))
    if not ledgers:
        raise MedsslError("INPUT_MISSING", "There is no private ledger", where="--private")
    found: set[str] = set()
    for row in _rows(ledgers):
        if names.path(row["real_path"]) != row["path"]:
            raise MedsslError(
                "KEY_MISMATCH",
                "The key did not make the pseudonyms of the ledger",
                where="--key-file",
            )
        if volumes & set(row["volumes"].split()):
            found.add(row["real_path"])
    if not found:
        raise MedsslError("VOLUME_UNKNOWN", "The store and its ledger know no such id")
    return sorted(found)


def _rows(ledgers: list[Path]) -> Iterator[dict[str, str]]:
    for path in ledgers:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
            yield from csv.DictReader(stream)
