"""What a user asks of an ingest, checked before anything is read."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from medssl.errors import CODES, MedsslError
from medssl.ingest.dicom import ALLOWABLE
from medssl.ingest.facts import KEEPABLE

_SITE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")


def check_wishes(allow: Collection[str], keep: Collection[str], site: str) -> None:
    """Refuse defects that cannot be accepted, what cannot be kept of a patient, and a site's name
    that is no short plain word.

    Raises:
        MedsslError: CODE_NOT_ALLOWABLE, CONFIG_INVALID.
    """
    _check_allow(allow)
    if not set(keep) <= set(KEEPABLE):
        raise MedsslError(
            "CONFIG_INVALID",
            "This cannot be kept of a patient",
            where="--keep",
            fix=f"Give one of {', '.join(KEEPABLE)}.",
        )
    if site and not _SITE.fullmatch(site):
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
