"""Values of DICOM tags, or a refusal that names the tag and never quotes its value."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medssl.errors import MedsslError
from medssl.ingest.attributes import ATTRIBUTES
from medssl.ingest.lean import LeanHeader

if TYPE_CHECKING:
    import pydicom

Key = str | int
"""A keyword of the standard, or group * 65536 + element."""


def parsed(path: Path, **how: Any) -> pydicom.Dataset:
    """A file's data set, by pydicom with these options.

    Raises:
        MedsslError: FILE_UNREADABLE.
        MemoryError: where it does not fit.
    """
    import pydicom

    try:
        return pydicom.dcmread(path, force=True, **how)
    except MemoryError:
        raise
    # A hostile or broken file can raise anything inside pydicom; it is that file's rejection.
    except Exception as error:
        raise MedsslError("FILE_UNREADABLE", f"Not parsable: {type(error).__name__}") from None


@cache
def _tag(key: Key) -> int:
    """Looked up once: pydicom would translate a keyword at every use."""
    if isinstance(key, int):
        return key
    if key in ATTRIBUTES:
        return ATTRIBUTES[key][0]
    from pydicom.tag import Tag

    return int(Tag(key))


def value(data: pydicom.Dataset, key: Key) -> Any:
    """What the tag holds, None where it is absent.

    Raises:
        MedsslError: DICOM_TAG_INVALID where it cannot be read.
    """
    if type(data) is LeanHeader:
        return data.get(_tag(key))
    try:
        element = data.get(_tag(key))
        return None if element is None else element.value
    # pydicom converts a value when it is first asked for, and quotes it in what it raises.
    except Exception:
        raise MedsslError("DICOM_TAG_INVALID", f"{_name(key)} cannot be read") from None


def text(data: pydicom.Dataset, key: Key) -> str:
    """The value as text, "" where it is absent."""
    found = _no_sequence(data, key)
    return "" if found is None else str(found).strip(" \0")


def words(data: pydicom.Dataset, key: Key) -> list[str]:
    """The values of a code string, in capitals."""
    found = _no_sequence(data, key)
    values = [found] if isinstance(found, str) else (found or [])
    return [str(word).strip().upper() for word in values]


def joined(data: pydicom.Dataset, key: Key) -> str:
    """The values as one text, "" where it is absent; equal texts mean equal values: numbers are
    rounded to a thousandth, for "30" and "30.0" are one echo time."""
    found = _no_sequence(data, key)
    several = isinstance(found, Iterable) and not isinstance(found, str | bytes)
    values = found if several else [] if found is None else [found]
    return "\\".join(_comparable(str(part).strip(" \0")) for part in values)


def _no_sequence(data: pydicom.Dataset, key: Key) -> Any:
    """The value; a sequence where a text belongs would be read through, and raise anything."""
    found = value(data, key)
    if type(data) is not LeanHeader and _is_nested(found):
        raise MedsslError("DICOM_TAG_INVALID", f"{_name(key)} is a sequence")
    return found


def _is_nested(found: Any) -> bool:
    import pydicom

    return isinstance(found, pydicom.Sequence | pydicom.Dataset)


@lru_cache(maxsize=4096)
def _comparable(word: str) -> str:
    try:
        return str(round(float(word), 3))
    except ValueError:
        return word


def number(data: pydicom.Dataset, key: Key) -> float | None:
    """One number, None where it is absent or empty.

    Raises:
        MedsslError: DICOM_TAG_INVALID where it is something else.
    """
    found = value(data, key)
    if found is None or found == "":
        return None
    try:
        return float(found)
    except (TypeError, ValueError):
        raise MedsslError("DICOM_TAG_INVALID", f"{_name(key)} is not one number") from None


def required(data: pydicom.Dataset, key: Key) -> float:
    """One number.

    Raises:
        MedsslError: DICOM_TAG_MISSING, DICOM_TAG_INVALID.
    """
    found = number(data, key)
    if found is None:
        raise MedsslError("DICOM_TAG_MISSING", f"{_name(key)} is absent")
    return found


def whole(data: pydicom.Dataset, key: Key) -> int:
    """One whole number.

    Raises:
        MedsslError: DICOM_TAG_MISSING, DICOM_TAG_INVALID.
    """
    found = required(data, key)
    if not found.is_integer():
        raise MedsslError("DICOM_TAG_INVALID", f"{_name(key)} is not a whole number")
    return int(found)


def numbers(data: pydicom.Dataset, key: Key, count: int) -> tuple[float, ...]:
    """So many numbers.

    Raises:
        MedsslError: DICOM_TAG_MISSING, DICOM_TAG_INVALID.
    """
    found = value(data, key)
    if found is None or found == "":
        raise MedsslError("DICOM_TAG_MISSING", f"{_name(key)} is absent")
    try:
        result = tuple(float(v) for v in found)
    except (TypeError, ValueError):
        raise MedsslError("DICOM_TAG_INVALID", f"{_name(key)} does not hold numbers") from None
    if len(result) != count:
        raise MedsslError("DICOM_TAG_INVALID", f"{_name(key)} does not hold {count} numbers")
    return result


def items(data: pydicom.Dataset, key: Key) -> list[pydicom.Dataset]:
    """The items of a sequence, none where it is absent.

    Raises:
        MedsslError: DICOM_TAG_INVALID where it is no sequence.
    """
    found = value(data, key)
    if found is None:
        return []
    import pydicom

    if not isinstance(found, pydicom.Sequence):
        raise MedsslError("DICOM_TAG_INVALID", f"{_name(key)} is not a sequence")
    return list(found)


def _name(key: Key) -> str:
    return key if isinstance(key, str) else f"({key >> 16:04x},{key & 0xFFFF:04x})"
