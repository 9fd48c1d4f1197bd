"""Small pictures of refused series for the page, drawn in processes with limits."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from medssl.ingest.journal import Item
from medssl.ingest.pool import Pool, run_items
from medssl.ingest.rejection import Rejection
from medssl.ingest.report.refused import MOST_THUMBNAILS, RejectedGroup
from medssl.ingest.survey import Survey
from medssl.store import Outcome

_MOST = 2 * MOST_THUMBNAILS  # some have no picture


def rejected_groups(
    rejections: Sequence[Rejection], folder: Path, pool: Pool, seen: Survey
) -> list[RejectedGroup]:
    """What was refused together, with a picture where one may be shown.

    Args:
        rejections: of files, in the order of the ingest.
        folder: for the journal.
        pool: where pictures are drawn.
        seen: every file.
    """
    refused = [one for one in rejections if one.outcome is Outcome.REJECTED]
    if not refused:
        return []
    from medssl.ingest.thumbnail import PICTURED

    items: dict[int, Item] = {}
    for number, one in enumerate(refused):
        files = [path for path in one.files if path in seen.slices]
        if one.code in PICTURED and files and len(items) < _MOST:
            text = "|".join(map(seen.keys.__getitem__, files))
            items[number] = Item(sha256(text.encode()).hexdigest()[:32], files)
    answers = run_items(_draw, list(items.values()), folder, pool)
    drawn = dict(zip(items, (answer.value for _, answer in answers), strict=True))
    return [
        RejectedGroup(one.code, one.detail, len(one.files), _picture(drawn.get(number)))
        for number, one in enumerate(refused)
    ]


def _draw(paths: Sequence[Path], folder: Path) -> Any:
    from medssl.ingest.thumbnail import thumbnail

    picture = thumbnail(paths)
    return None if picture is None else [*picture.shape, picture.tobytes().hex()]


def _picture(plain: Any) -> Any:
    if plain is None:
        return None
    rows, columns, text = plain
    return np.frombuffer(bytes.fromhex(text), np.uint8).reshape(rows, columns)
