from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medssl.bundle import Bundle
from medssl.demo.run import RUNS, demo
from medssl.demo.settings import FULL, QUICK, Roles
from medssl.errors import MedsslError
from medssl.ingest.pseudonym import Pseudonymizer, load_key


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    with pytest.raises(MedsslError, match="OUT_EXISTS"):
        demo(tmp_path)


def test_roles() -> None:
    assert Roles(2, 1, 1).splits() == ["train", "train", "validation", "test"]
    for settings in (FULL, QUICK):
        assert settings.torsos.train >= settings.labelled
        assert min(settings.torsos.validation, settings.torsos.test, settings.heads.train) > 0
        stride = 2 ** (len(settings.widths) - 1)
        assert settings.mask_cell % stride == 0
        assert all(size % settings.mask_cell == 0 for size in settings.patch)


@pytest.mark.slow
def test_the_quick_demo_runs_from_end_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medssl.cli import app

    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["demo", str(out), "--quick"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "mlflow ui --backend-store-uri" in result.output
    assert "medssl review" in result.output

    page = (out / "report.html").read_text(encoding="utf-8")
    assert "A quick run" in page
    assert page.count("data:image/png;base64,") >= 8
    assert "http" not in page.replace("http://www.w3.org", "")
    assert "PHANTOM-" not in page

    assert (out / "mlflow.db").is_file()
    for name in RUNS:
        status = json.loads((out / "results" / name / "status.json").read_text())
        assert status["state"] == "done"
        assert status["written"] == QUICK.torsos.test

    names = Pseudonymizer(load_key(out / "stores" / "demo.key", create=False))
    spec = Bundle.load(out / "finetune" / "pretrained" / "bundle").spec
    held_out = range(QUICK.torsos.train + 1, QUICK.torsos.train + QUICK.torsos.test + 2)
    assert spec.has_seen(names.subject("PHANTOM-T001"))
    assert not any(spec.has_seen(names.subject(f"PHANTOM-T{n:03d}")) for n in held_out)
