"""The first bytes of a file: they tell what it is, and mostly hold all of its header."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

BYTES = 16384


class Opening(NamedTuple):
    """The first bytes of a file, and how many it has."""

    data: bytes
    size: int


def read_opening(path: Path | str) -> Opening:
    """Read them at once, so that a file is opened once for its kind and its header.

    Raises:
        OSError: where it cannot be opened.
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return Opening(os.pread(handle, BYTES, 0), os.fstat(handle).st_size)
    finally:
        os.close(handle)
