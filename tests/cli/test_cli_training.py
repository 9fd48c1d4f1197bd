import json

import pytest
from typer.testing import CliRunner

from medssl.cli import app
from medssl.cli.pretrain import METHOD_NAMES
from medssl.errors import MedsslError
from medssl.methods import METHODS
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
    number = run(
        *("finetune", "regression", blob_store, tmp_path / "r", *SMALL, "--json"),
        *("--init", first["bundle"], "--target", "side"),
    )
    assert {"test_mae", "test_r", "test_r2"} <= set(number)


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


@pytest.mark.parametrize(
    "verb", ["pretrain", "evaluate", "predict", "locate", "export", "ingest", "review"]
)
def test_help_shows_an_example(verb):
    text = runner.invoke(app, [verb, "--help"]).stdout
    assert "Example" in text
    assert f"medssl {verb}" in text


def test_a_dry_run_tells_the_costs_and_writes_nothing(blob_store, tmp_path, monkeypatch):
    monkeypatch.setattr("medssl.training.dry_run.SECONDS", 0.5)
    arguments = ["pretrain", blob_store, tmp_path / "p", *SMALL, "encoder_options.widths=[4,8]"]
    told = run(*arguments, "--dry-run", "--json")
    assert told["limit"] in ("disk", "workers", "views", "model")
    assert told["volumes"] == 7
    text = runner.invoke(app, [*map(str, arguments), "--dry-run"], catch_exceptions=False).stdout
    for words in ("samples a second", "forward and backward", "What limits it", "What to change"):
        assert words in text
    assert "2 steps of 2 samples" in text
    assert not (tmp_path / "p").exists()
    automatic = run(*arguments[:4], "device=cpu", "encoder_options.widths=[4,8]", "--dry-run",
                    "--batch-size", "auto", "--json")  # fmt: skip
    assert automatic["batch_size"] == 2  # of seven volumes; an epoch keeps its steps


def test_a_diverged_run_is_shown_tensor_by_tensor(blob_store, tmp_path):
    broken = ["lr=1e30", "clip=1e30", "warmup=0.0", "encoder_options.widths=[4,8]", "steps=9"]
    out = tmp_path / "p"
    with pytest.raises(MedsslError, match="TRAINING_DIVERGED"):
        run("pretrain", blob_store, out, "batch_size=2", "device=cpu", *broken)
    again = ["pretrain", blob_store, out, "--replay"]
    found = run(*again, "--json")
    assert found["step"] > 1
    assert not found["tensors"][found["first_bad"]]["finite"]
    assert all(tensor["finite"] for tensor in found["tensors"][: found["first_bad"]])
    text = runner.invoke(app, list(map(str, again)), catch_exceptions=False).stdout
    assert f"First not finite in step {found['step']}" in text


def test_help_names_every_method():
    assert tuple(METHODS) == METHOD_NAMES
