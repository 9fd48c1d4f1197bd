"""Names of the structures that label objects hold: which may be kept, and their label values.

SegmentLabel and ROIName are free text, and text can tell who the patient is. A name is kept when
it has ordinary characters only and repeats nothing of the patient; any other refuses its file,
unless the user stated that very name.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterable, Mapping, MutableSequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medssl.errors import MedsslError
from medssl.ingest.tags import value

if TYPE_CHECKING:
    import pydicom

MOST_CHARACTERS = 64
_ORDINARY = frozenset(" -_/.+()")
_PERSONAL = (
    "PatientName",
    "PatientID",
    "OtherPatientIDs",
    "OtherPatientNames",
    "PatientBirthName",
    "PatientMotherBirthName",
    "AccessionNumber",
    "ReferringPhysicianName",
    "PhysiciansOfRecord",
    "PerformingPhysicianName",
    "NameOfPhysiciansReadingStudy",
    "OperatorsName",
    "ContentCreatorName",
    "ReviewerName",
)
_LONG_NUMBER = re.compile(r"\d{6,}")  # dates and most numbers of patients
_BETWEEN_DIGITS = re.compile(r"(?<=\d)[-/. ](?=\d)")


@dataclass(frozen=True)
class NameRules:
    """What the user said of structures, blanks made single.

    Attributes:
        stated: names that have a label value; kept whatever they hold.
        only: the names to take, kept as well; empty for all.
    """

    stated: frozenset[str] = frozenset()
    only: frozenset[str] = frozenset()

    @classmethod
    def of(cls, stated: Iterable[str], only: Iterable[str] = ()) -> NameRules:
        """The rules for names as they were typed."""
        return cls(frozenset(map(_plain, stated)), frozenset(map(_plain, only)))

    def wants(self, name: str) -> bool:
        """Whether a structure of this name is to be taken."""
        return not self.only or _plain(name) in self.only


EVERY = NameRules()
"""The user said nothing: every structure, under the name it has."""


def _plain(name: str) -> str:
    return " ".join(name.split())


def kept_name(name: str, number: int, personal: Collection[str], rules: NameRules) -> str:
    """A structure's name as it may enter the store, blanks made single.

    Args:
        name: SegmentLabel or ROIName.
        number: of the structure in its file, for the error.
        personal: from :func:`personal_words`.
        rules: what the user said of names.

    Raises:
        MedsslError: LABEL_INVALID for an empty or long name, characters that are no letters,
            digits, blanks or ``-_/.+()``, a number of six or more digits, or a word of the
            patient's or a physician's name or number.
    """
    plain = _plain(name)
    if plain in rules.stated or plain in rules.only:
        return plain
    if not 0 < len(plain) <= MOST_CHARACTERS:
        what = f"has {len(plain)} characters, not 1 to {MOST_CHARACTERS}"
    elif not all(c.isalnum() or c in _ORDINARY for c in plain):
        what = "has other characters than letters, digits, blanks and -_/.+()"
    elif _LONG_NUMBER.search(_BETWEEN_DIGITS.sub("", plain)):
        what = "holds a long number, such as a date"
    elif _repeats(plain, personal):
        what = "repeats a name or number of a person"
    else:
        return plain
    raise MedsslError("LABEL_INVALID", f"The name of structure {number} {what}")


def personal_words(data: pydicom.Dataset) -> frozenset[str]:
    """What a header holds of names and numbers of persons: words of three characters and more,
    letters and digits alone, in lower case."""
    found: set[str] = set()
    for key in _PERSONAL:
        held = value(data, key)
        parts = held if isinstance(held, tuple | MutableSequence) else [held]
        for part in parts:
            words = re.split(r"[\s^=,]+", "" if part is None else str(part).casefold())
            found.update("".join(filter(str.isalnum, word)) for word in words)
    # "12" or "001" says little of a person and much of a lesion.
    return frozenset(word for word in found if len(word) >= (4 if word.isdigit() else 3))


def _repeats(name: str, personal: Collection[str]) -> bool:
    words = set(re.split(r"[\W_]+", name.casefold()))
    joined = "".join(filter(str.isalnum, name.casefold()))
    return any(word in words or (len(word) > 4 and word in joined) for word in personal)


def number_structures(names: Iterable[str], stated: Mapping[int, str]) -> dict[str, int]:
    """One label value for each name, whatever the order in which the names come.

    A name that is stated has its stated value; the others get the lowest free values from 1, in
    the order of the names.

    Args:
        names: of all structures of the store.
        stated: label values that tables or the user named.

    Raises:
        MedsslError: TABLE_INVALID where two values have the name of a structure.
    """
    wanted = sorted(set(names))
    values: dict[str, int] = {}
    for number, name in sorted(stated.items()):
        plain = _plain(name)
        if plain in wanted and values.setdefault(plain, number) != number:
            raise MedsslError("TABLE_INVALID", "Two label values have the name of one structure")
    free = (number for number in itertools.count(1) if number not in stated)
    return {name: values[name] if name in values else next(free) for name in wanted}
