"""Facts of a header that research needs, and what of them may enter the store.

:func:`read_facts` takes them from the header as they are; they are real values and stay within the
process. :func:`retained` alone turns them into what the manifest says. What each attribute becomes
is declared in :mod:`medssl.ingest.profile`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from medssl.errors import MedsslError
from medssl.ingest import vocabulary
from medssl.ingest.pseudonym import Pseudonymizer
from medssl.ingest.tags import text

if TYPE_CHECKING:
    import pydicom

    from medssl.store.records import LabelValue

Facts = tuple[tuple[str, str], ...]
"""Pairs of a keyword and its value, "" where it is absent: plain strings, real values."""

KEEPABLE = ("age", "sex")
"""Patient characteristics that a user may ask for."""

FACT_TAGS = (
    "StudyDate",
    "Manufacturer",
    "ManufacturerModelName",
    "DeviceSerialNumber",
    "StationName",
    "InstitutionName",
    "BodyPartExamined",
    "SeriesDescription",
    "PatientAge",
    "PatientSex",
    "BurnedInAnnotation",
)
OLDEST = 90
"""Ages above 89 are one group (45 CFR 164.514(b)(2)(i)(C))."""
_AGE = re.compile(r"(\d{3})([DWMY])")
_PER_YEAR = {"D": 365.25, "W": 52.18, "M": 12.0, "Y": 1.0}


def read_facts(data: pydicom.Dataset) -> Facts:
    """The facts at the top of a header. What cannot be read counts as absent: no voxel needs it."""
    return tuple((key, _text(data, key)) for key in FACT_TAGS)


def _text(data: pydicom.Dataset, key: str) -> str:
    try:
        return text(data, key)
    except MedsslError:
        return ""


def shared_facts(headers: Iterable[Facts]) -> Facts:
    """The facts of a volume: those its slices agree on, "" for the rest.

    One slice with burned-in text is enough for the volume.
    """
    values: dict[str, list[str]] = {}
    for facts in dict.fromkeys(headers):  # mostly one, of a thousand slices
        for key, value in facts:
            values.setdefault(key, []).append(value)
    agreed = {key: found[0] if len(set(found)) == 1 else "" for key, found in values.items()}
    if any(value.upper() == "YES" for value in values.get("BurnedInAnnotation", [])):
        agreed["BurnedInAnnotation"] = "YES"
    return tuple(agreed.items())


def retained(facts: Facts, subject: str, names: Pseudonymizer, site: str = "") -> dict[str, Any]:
    """What the manifest says of a volume, free of identifiers.

    Args:
        facts: of the volume.
        subject: the real PatientID; dates move by a number of days of its own.
        names: the pseudonymizer.
        site: the site's name as the user states it, instead of the pseudonym of its institution.

    Returns:
        ``study_date`` (ISO date, moved), ``manufacturer``, ``model``, ``scanner`` (``scn-...``),
        ``site`` (``sit-...`` or as stated), ``body_part``, ``description``; "" where unknown.
    """
    known: Mapping[str, str] = dict(facts)
    manufacturer = vocabulary.maker(known.get("Manufacturer", ""))
    institution = _plain(known.get("InstitutionName", ""))
    return {
        "study_date": _moved(known.get("StudyDate", ""), names.days_back(subject)),
        "manufacturer": manufacturer,
        "model": vocabulary.model(known.get("ManufacturerModelName", "")),
        "scanner": _scanner(known, manufacturer, institution, names),
        "site": site or (names.site(institution) if institution else ""),
        "body_part": vocabulary.body_part(known.get("BodyPartExamined", "")),
        "description": vocabulary.description(known.get("SeriesDescription", "")),
    }


def patient_labels(facts: Facts, keep: Collection[str]) -> dict[str, LabelValue]:
    """Labels that the user asks to keep: ``age`` in whole years up to 90 (and older), ``sex`` as
    "F", "M" or "O"; None where unknown.
    """
    known = dict(facts)
    sex = known.get("PatientSex", "").upper()
    labels: dict[str, LabelValue] = {
        "age": _years(known.get("PatientAge", "")),
        "sex": sex if sex in ("F", "M", "O") else None,
    }
    return {name: labels[name] for name in KEEPABLE if name in keep}


def with_patient(
    labels: Mapping[str, LabelValue], facts: Facts, keep: Collection[str]
) -> dict[str, LabelValue]:
    """Labels of tables and those that :func:`patient_labels` keeps.

    Raises:
        MedsslError: DUPLICATE_CONFLICT where they contradict each other.
    """
    both = dict(labels)
    for name, value in patient_labels(facts, keep).items():
        if both.get(name) is None:
            both[name] = value
        elif value is not None and both[name] != value:
            raise MedsslError("DUPLICATE_CONFLICT", f"A table and the header differ in {name}")
    return both


def _moved(stated: str, days: int) -> str:
    """A DICOM date (also "2020.01.21", as ACR-NEMA had it) so many days earlier, "" for others."""
    digits = stated.replace(".", "") if re.fullmatch(r"\d{4}\.\d\d\.\d\d", stated) else stated
    if not re.fullmatch(r"[0-9]{8}", digits):
        return ""
    try:
        real = date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
        return (real - timedelta(days=days)).isoformat()
    except (ValueError, OverflowError):
        return ""


def _years(stated: str) -> int | None:
    """Whole years of an Age String; "000Y" is how scanners say that they do not know."""
    found = _AGE.fullmatch(stated)
    if found is None or stated == "000Y":
        return None
    return min(OLDEST, int(int(found[1]) / _PER_YEAR[found[2]]))


def _scanner(
    known: Mapping[str, str], manufacturer: str, institution: str, names: Pseudonymizer
) -> str:
    """By serial number, which one maker gives once; else by station, which one site names once."""
    serial, station = (_plain(known.get(k, "")) for k in ("DeviceSerialNumber", "StationName"))
    if serial:
        return names.scanner(f"serial\0{manufacturer}\0{serial}")
    return names.scanner(f"station\0{institution}\0{station}") if station else ""


def _plain(text: str) -> str:
    """The same text in whatever case and spacing."""
    return " ".join(text.casefold().split())
