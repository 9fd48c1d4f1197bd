"""DICOMDIR: which files a medium should have (PS3.3 annex F, PS3.10 section 8)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from medssl.errors import MedsslError
from medssl.ingest.scan import Found, Kind

_RECORDS, _FILE_ID, _IN_USE = 0x00041220, 0x00041500, 0x00041410
_UNUSED = 0  # a record that was deleted (PS3.3 F.3.2.2)
_MOST_COMPONENTS = 8
_VERSION = re.compile(r"\.?(;\d+)?$")  # what ISO 9660 may add to a name


@dataclass(frozen=True)
class Directory:
    """One DICOMDIR.

    Attributes:
        item: its file.
        named: how many files it names.
        missing: how many of them are not there, or lie outside of its folder.
        error: why it could not be read, or None.
    """

    item: Found
    named: int = 0
    missing: int = 0
    error: MedsslError | None = None


def read_directories(found: Sequence[Found]) -> list[Directory]:
    """Compare every DICOMDIR with the files found. No file that one names is opened."""
    directories = [item for item in found if item.kind is Kind.DICOMDIR]
    if not directories:
        return []
    present = {_key(item.relative) for item in found}
    result = []
    for item in directories:
        try:
            names = file_ids(item.path)
        except MedsslError as error:
            result.append(Directory(item, error=error))
            continue
        folder = PurePosixPath(item.relative).parent
        missing = sum(_resolve(folder, name) not in present for name in names)
        result.append(Directory(item, len(names), missing))
    return result


def file_ids(path: Path) -> set[tuple[str, ...]]:
    """The Referenced File IDs (0004,1500) of the records in use, as their components.

    Raises:
        MedsslError: FILE_UNREADABLE.
    """
    import pydicom

    try:
        records = pydicom.dcmread(path)[_RECORDS].value
        ids: set[tuple[str, ...]] = set()
        for record in records:
            names, use = record.get(_FILE_ID), record.get(_IN_USE)
            if names is None or (use is not None and use.value == _UNUSED):
                continue
            value = names.value
            ids.add(tuple(map(str, [value] if isinstance(value, str) else value or [])))
        return ids - {()}
    # pydicom raises many types on a damaged file.
    except Exception as error:
        raise MedsslError("FILE_UNREADABLE", f"DICOMDIR: {type(error).__name__}") from None


def _resolve(folder: PurePosixPath, components: Iterable[str]) -> str | None:
    """A File ID as a key of a file, or None where it would lead elsewhere."""
    parts = list(components)
    odd = any(part in ("", ".", "..") or "/" in part or "\\" in part for part in parts)
    if odd or len(parts) > _MOST_COMPONENTS:
        return None
    return _key(str(folder.joinpath(*parts)))


def _key(relative: str) -> str:
    """A path as it is compared: media in upper case are often copied to disks in lower case."""
    return _VERSION.sub("", relative).lower()
