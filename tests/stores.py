"""Stores, looked at byte by byte."""

from __future__ import annotations

from pathlib import Path


def bytes_of(store: Path) -> dict[str, bytes]:
    """Every file of a store by its path."""
    return {
        path.relative_to(store).as_posix(): path.read_bytes()
        for path in sorted(store.rglob("*"))
        if path.is_file()
    }
