"""What a user asks of an ingest, checked before anything is read."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from medssl.errors import CODES, MedsslError
from medssl.ingest.allowable import ALLOWABLE
from medssl.ingest.facts import KEEPABLE

_SITE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")


class Wishes(TypedDict, total=False):
    """The keyword arguments of :func:`medssl.ingest.run.ingest` that are :class:`Options`."""

    label_names: Mapping[int, str] | None
    modality: str
    class_folders: bool
    allow: Collection[str]
    structures: Collection[str]
    site: str
    keep: Collection[str]
    deface: bool


@dataclass(frozen=True)
class Options:
    """What the outcome depends on, beside the files and the key.

    Attributes:
        label_names: names of label map values, over those that tables state.
        modality: DICOM code for files that state none (NIfTI, PNG, .npz, ...).
        class_folders: take the folder of a picture without a table for its class.
        allow: codes of defects to accept (:data:`medssl.ingest.allowable.ALLOWABLE`); the manifest
            keeps them for each volume that has one.
        structures: of DICOM SEG and RTSTRUCT, take those of these names alone.
        site: a plain word for the site of all volumes, instead of a pseudonym of what headers say.
        keep: patient characteristics to keep as labels: "age", "sex".
        deface: remove faces (:mod:`medssl.ingest.deface`); refuse what may have one and cannot.
    """

    label_names: Mapping[int, str] | None = None
    modality: str = "OT"
    class_folders: bool = False
    allow: Collection[str] = ()
    structures: Collection[str] = ()
    site: str = ""
    keep: Collection[str] = ()
    deface: bool = False

    def plain(self) -> dict[str, Any]:
        """What JSON can hold; the same for the same options."""
        return {
            name: sorted(value) if isinstance(value, tuple | list | set | frozenset) else value
            for name, value in vars(self).items()
            if name != "label_names"  # they change no file that is read, nor how
        }


def check_options(options: Options) -> None:
    """Refuse defects that cannot be accepted, what cannot be kept of a patient, and a site's name
    that is no short plain word.

    Raises:
        MedsslError: CODE_NOT_ALLOWABLE, CONFIG_INVALID.
    """
    _check_allow(options.allow)
    if not set(options.keep) <= set(KEEPABLE):
        raise MedsslError(
            "CONFIG_INVALID",
            "This cannot be kept of a patient",
            where="--keep",
            fix=f"Give one of {', '.join(KEEPABLE)}.",
        )
    if options.site and not _SITE.fullmatch(options.site):
        raise MedsslError(
            "CONFIG_INVALID",
            "The name of the site is not a plain word",
            where="--site",
            fix="Up to 32 letters, digits, points, dashes, underscores; a letter or digit first.",
        )


def _check_allow(allow: Collection[str]) -> None:
    for code in allow:
        if code not in ALLOWABLE:
            raise MedsslError(
                "CODE_NOT_ALLOWABLE",
                "This defect cannot be accepted",
                where=code if code in CODES else "--allow",
                fix=f"Give one of {', '.join(sorted(ALLOWABLE))}.",
            )


def check_places(in_path: Path, store_path: Path, add: bool) -> None:
    """Refuse an input that is not there, and a store that is or that would be read as input.

    Raises:
        MedsslError: INPUT_MISSING, STORE_EXISTS, STORE_INSIDE_INPUT.
    """
    if not in_path.exists():
        raise MedsslError("INPUT_MISSING", "The input folder does not exist", where="IN")
    if store_path.exists() and not add:
        raise MedsslError(
            "STORE_EXISTS",
            "The store already exists",
            where="STORE",
            fix="Add to it with --add, give another name, or move it away.",
        )
    if store_path.resolve().is_relative_to(in_path.resolve()):
        raise MedsslError(
            "STORE_INSIDE_INPUT",
            "The store would lie inside the input and be read as input next time",
            where="STORE",
            fix="Put it beside the input folder.",
        )
