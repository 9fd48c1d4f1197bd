import json

import pytest
from typer.testing import CliRunner

from medssl.cli import app
from medssl.errors import MedsslError
from medssl.store import Store

runner = CliRunner()
SMALL = ["steps=2", "batch_size=2", "device=cpu"]


def run(*arguments):
    result = runner.invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_pretrain_then_finetune(blob_store, tmp_path):
    dims = Store.open(blob_store)["vol-0"].dims
    first = run(
        *("pretrain", blob_store, tmp_path / "p", *SMALL, "--method", "mae", "--json"),
        "encoder_options.widths=[4,8]",
    )
    assert first["subjects"] == 7
    seg = run(
        *("finetune", "segmentation", blob_store, tmp_path / "s", *SMALL, "--json"),
        *("--init", first["bundle"], "--labels", "2"),
    )
    assert seg["transfer_encoder_fraction"] == 1.0
    assert seg["labelled_subjects"] == 2
    cls = run(
        *("finetune", "classification", blob_store, tmp_path / "c", *SMALL, "--json"),
        *("--labels", "0.5", "--label", "side", f"patch_size={[16] * dims}"),
    )
    assert cls["labelled_subjects"] == 4
    assert cls["init"] == "scratch"


@pytest.mark.parametrize("labels", ["many", "1.x"])
def test_labels_must_be_a_number(blob_store, tmp_path, labels):
    arguments = ["finetune", "segmentation", blob_store, tmp_path / "s", "--labels", labels]
    assert runner.invoke(app, list(map(str, arguments))).exit_code == 2


def test_a_preset_is_found_by_name_and_a_wrong_one_is_an_error(blob_store, tmp_path):
    arguments = ["pretrain", blob_store, tmp_path / "p", "--config"]
    with pytest.raises(MedsslError, match="RESOURCE_MISSING"):
        runner.invoke(app, [*map(str, arguments), "no/such"], catch_exceptions=False)
    small = [
        "encoder_options.widths=[4,8]",
        f"patch_size={[8] * Store.open(blob_store)['vol-0'].dims}",
    ]
    found = run(
        *arguments, "pretrain/mae3d", *SMALL, *small, "precision=fp32", "workers=0", "--json"
    )
    assert found["steps"] == 2


@pytest.mark.parametrize("verb", ["pretrain", "evaluate", "predict", "export", "ingest", "review"])
def test_help_shows_an_example(verb):
    text = runner.invoke(app, [verb, "--help"]).stdout
    assert "Example" in text
    assert f"medssl {verb}" in text
