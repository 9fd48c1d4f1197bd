import json
import shutil

import pytest
from typer.testing import CliRunner

from medssl.cli import app
from medssl.errors import MedsslError
from medssl.store import Store
from medssl.store.named_splits import splits_of

runner = CliRunner()


@pytest.fixture
def store(blob_store, tmp_path):
    return shutil.copytree(blob_store, tmp_path / "store")


def run(*arguments):
    result = runner.invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_table_shows_every_side_and_what_is_absent(store):
    text = run("split", store, "--fractions", "train=0.9,test=0.1", "--stratify", "side")
    assert "split default: 10 subjects" in text
    assert "test has no subject with side" in text
    assert "pretrain, evaluate and finetune use it unasked" in text


def test_json_holds_options_sides_and_findings(store):
    found = json.loads(run("split", store, "--folds", 5, "--name", "cv", "--json"))
    assert found["options"]["folds"] == 5
    assert [row["split"] for row in found["sides"]] == [f"fold {k}" for k in range(5)]
    assert all(row["subjects"] == 2 for row in found["sides"])
    assert found["findings"] == []


def test_check_makes_nothing_and_fails_where_a_split_leaks(store):
    assert "No subject was found under two ids" in run("split", store, "--check")
    assert not (store / "splits" / "default").exists()
    run("split", store, "--no-near-duplicates")
    manifest = Store.open(store).manifest
    manifest["study_id"] = "one"
    manifest.to_parquet(store / "manifest.parquet")
    with pytest.raises(MedsslError, match=r"SUBJECT_LEAK.*default"):
        run("split", store, "--check", "--json")


@pytest.mark.parametrize("text", ["train", "train=x", "train=0.7,test"])
def test_fractions_that_cannot_be_read(store, text):
    result = runner.invoke(app, ["split", str(store), "--fractions", text])
    assert result.exit_code == 2


@pytest.mark.parametrize("spec", [None, "other", "cv:1"], ids=["default", "named", "fold"])
def test_every_verb_holds_out_the_same_subjects(store, tmp_path, spec):
    """pretrain, finetune and evaluate, each asked in its own way, against the split itself."""
    from medssl.bundle import Bundle
    from medssl.finetune.config import FinetuneConfig
    from medssl.finetune.labels import labelled_volumes

    run("split", store, "--seed", 7)
    run("split", store, "--seed", 8, "--name", "other")
    run("split", store, "--folds", 3, "--name", "cv")
    opened = Store.open(store)
    roles = splits_of(opened, spec)
    assert len({tuple(sorted(splits_of(opened, s).items())) for s in (None, "other", "cv:1")}) == 3
    small = ["steps=1", "batch_size=2", "device=cpu", "encoder_options.widths=[4,8]", "--json"]
    chosen = [f"split={spec}"] if spec else []
    done = json.loads(run("pretrain", store, tmp_path / "p", *small, *chosen))
    bundle = Bundle.load(done["bundle"])
    assert {s for s in roles if bundle.spec.has_seen(s)} == {
        s for s in roles if roles[s] == "train"
    }
    assert bundle.spec.config["split"] == spec

    tuned = json.loads(
        run("finetune", "classification", store, tmp_path / "f", *small, *chosen, "--label", "side")
    )
    assert tuned["test_subjects"] == list(roles.values()).count("test")
    model = Bundle.load(tuned["bundle"])
    assert {s for s in roles if model.spec.has_seen(s)} == {s for s in roles if roles[s] == "train"}
    volumes = labelled_volumes(
        opened, opened.manifest["volume_id"].tolist(), None, FinetuneConfig(split=spec)
    )
    assert {opened[v].subject_id for v in volumes.test} == {s for s in roles if roles[s] == "test"}

    asked = ["--split", spec] if spec else []
    shown = json.loads(
        run("evaluate", done["bundle"], store, *asked, "--seeds", 1, "--fractions", 1, "--json")
    )
    assert shown["seen_test_subjects"] == 0
    assert shown["subjects"]["test"] == list(roles.values()).count("test")
