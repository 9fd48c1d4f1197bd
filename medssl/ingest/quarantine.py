"""Images kept out of the store for a person to look at: a list of their files."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from medssl.ingest.pseudonym import write_private

FOLDER = "quarantine"


def write_quarantine(private: Path, files: Sequence[tuple[str, str]]) -> Path | None:
    """List images that seem to hold text; for the site's own eyes, never over another list.

    Args:
        private: ``STORE.private``.
        files: real path relative to IN, and why.

    Returns:
        ``quarantine/burned-in-text.csv`` in it (``burned-in-text-2.csv``, ... where that is taken),
        or None where there are none.
    """
    if not files:
        return None
    buffer = io.StringIO()
    table = csv.writer(buffer)
    table.writerow(["real_path", "detail"])
    table.writerows(files)
    folder = private / FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    target, number = folder / "burned-in-text.csv", 2
    while target.exists():
        if target.read_bytes() == buffer.getvalue().encode("utf-8", "surrogateescape"):
            return target  # an ingest that was interrupted wrote it
        target, number = folder / f"burned-in-text-{number}.csv", number + 1
    write_private(target, buffer.getvalue())
    return target
