"""Files that were refused together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medssl.store import Outcome


@dataclass(frozen=True)
class Rejection:
    """Files that were refused together, and why. ``detail`` holds no identifiers."""

    files: list[Path]
    code: str
    detail: str

    @property
    def outcome(self) -> Outcome:
        """Not all that is left out is rejected: copies are duplicates, and some is ignored."""
        if self.code in ("NOT_AN_IMAGE", "LABEL_UNWANTED"):
            return Outcome.IGNORED
        return Outcome.DUPLICATE if self.code == "DUPLICATE" else Outcome.REJECTED
