"""Write docs/claims.md from the results in docs/claims/ (`make docs`)."""

from __future__ import annotations

from pathlib import Path

from medssl.studies.claims import Claim, page

DOCS = Path(__file__).resolve().parent.parent / "docs"


def text() -> str:
    """What docs/claims.md has to be."""
    return page([Claim.read(file) for file in sorted((DOCS / "claims").glob("*.json"))])


if __name__ == "__main__":
    (DOCS / "claims.md").write_text(text(), encoding="utf-8")
