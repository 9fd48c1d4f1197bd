"""The review app's modules lie beside app.py, which is how Streamlit finds them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
APP = HERE.parents[2] / "apps" / "review" / "app.py"
for folder in (HERE, APP.parent):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


@pytest.fixture
def app_file() -> Path:
    return APP


@pytest.fixture
def results_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three tiny cases and one rejected input."""
    from synthetic_results import small_results

    monkeypatch.delenv("MEDSSL_VERDICTS_URL", raising=False)
    return small_results(tmp_path / "results")
