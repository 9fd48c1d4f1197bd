"""docs/how-to/add-a-method.md, followed literally."""

from __future__ import annotations

import re
import runpy
import sys
import types
from pathlib import Path

import pytest

from medssl.errors import MedsslError
from medssl.methods import METHODS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "how-to" / "add-a-method.md").read_text(encoding="utf-8")
SHARED = ("tests/methods/test_methods_all.py", "tests/training/test_training_methods.py")


def files() -> dict[str, str]:
    """The page's Python by the name of its file: the last one named before the block."""
    found = {}
    for block in re.finditer(r"```python\n(.*?)```", PAGE, re.S):
        named = re.findall(r"`([\w/]+\.py)`", PAGE[: block.start()])
        found[named[-1]] = block.group(1)
    return found


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the page's files, from which Python imports; the registry is restored."""
    for name, text in files().items():
        (tmp_path / Path(name).name).write_text(text, encoding="utf-8")
    (tmp_path / "spread.py").write_text(files()["spread.py"], encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "spread", raising=False)
    monkeypatch.setitem(METHODS, "spread", METHODS["simclr"])  # taken out again afterwards
    yield tmp_path
    sys.modules.pop("spread", None)


def test_the_page_names_its_files_and_what_it_speaks_of_is_there():
    assert set(files()) == {"spread.py", "train.py", "check.py", "tests/method_cases/spread.py"}
    assert len(files()["spread.py"].splitlines()) < 60
    for path in (*SHARED, "benchmarks/methods.py", "docs/methods/simclr.md"):
        assert (ROOT / path).is_file()
    for path in SHARED:
        assert path in PAGE


@pytest.mark.parametrize("blob_store", [2], indirect=True)
def test_the_method_trains_and_its_bundle_opens(folder, blob_store, monkeypatch, capsys):
    out = folder / "OUT"
    monkeypatch.setattr(sys, "argv", ["train.py", str(blob_store), str(out)])
    runpy.run_path(str(folder / "train.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert re.search(r"step 20: loss -?\d+\.\d+, crowding -\d+\.\d+", printed)
    assert "spread [(8, 16, 16), (16, 8, 8), (32, 4, 4)]" in printed
    assert list((out / "previews").glob("*.png"))


def test_the_checks_pass(folder, capsys):
    runpy.run_path(str(folder / "check.py"))
    assert capsys.readouterr().out == "sound\n"


def test_the_shared_tests_ask_it(folder, tmp_path, monkeypatch):
    import spread

    monkeypatch.setitem(METHODS, "spread", spread.Spread)
    case = types.ModuleType("method_cases.spread")
    exec(compile(files()["tests/method_cases/spread.py"], "case", "exec"), case.__dict__)
    monkeypatch.setitem(sys.modules, "method_cases.spread", case)
    alone, runs = (runpy.run_path(str(ROOT / path)) for path in SHARED)
    for encoder in case.CASE.encoders:
        alone["test_every_parameter_that_is_trained_gets_a_gradient"]("spread", encoder, 3)
    runs["test_a_healthy_run_is_let_alone"](tmp_path, "spread")
    (broken,) = case.CASE.broken.values()
    with pytest.raises(MedsslError, match="TRAINING_COLLAPSED"):
        runs["watched"](tmp_path, "spread", None, broken.options, **broken.values)
