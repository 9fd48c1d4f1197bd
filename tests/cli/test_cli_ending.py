from __future__ import annotations

import sys
from pathlib import Path

import pytest

from medssl.cli.ending import script
from medssl.errors import MedsslError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("error", "line", "code"),
    [
        (MedsslError("CONFIG_INVALID", "It is odd"), "CONFIG_INVALID: It is odd", 2),
        (MemoryError(), "OUT_OF_MEMORY", 5),
        (ValueError("Jane Doe"), "BUG: an unexpected ValueError", 1),
    ],
)
def test_a_script_ends_with_one_line_and_a_code(error, line, code, capsys, monkeypatch):
    def main(name: str) -> None:
        raise error

    monkeypatch.setattr(sys, "argv", ["script", "x"])
    monkeypatch.delenv("MEDSSL_DEBUG", raising=False)
    with pytest.raises(SystemExit) as ended:
        script(main)
    told = capsys.readouterr().err
    assert ended.value.code == code
    assert told.startswith(line)
    assert told.count("\n") == 1
    assert "Jane" not in told


def test_a_bug_is_raised_where_it_is_asked_for(monkeypatch):
    def main() -> None:
        raise ValueError("where")

    monkeypatch.setattr(sys, "argv", ["script"])
    monkeypatch.setenv("MEDSSL_DEBUG", "1")
    with pytest.raises(ValueError, match="where"):
        script(main)


def test_every_pipeline_ends_like_medssl():
    # or a wrong folder's name would be told as a traceback
    for file in (ROOT / "pipelines").rglob("*.py"):
        assert "typer.run(" not in file.read_text(encoding="utf-8"), file.name
