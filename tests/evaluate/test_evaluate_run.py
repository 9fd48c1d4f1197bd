from __future__ import annotations

import json

import pandas as pd
import pytest
from typer.testing import CliRunner

from medssl.errors import MedsslError
from medssl.evaluate.run import evaluate

QUICK = {"fractions": (0.2, 1.0), "seeds": 2}


def test_pictures_with_classes(pictures, tmp_path, save_bundle):
    bundle = save_bundle(tmp_path / "run" / "bundle", 2, [16, 16], seen=["p0", "p1"])
    out = tmp_path / "evaluation"
    result = evaluate(bundle.path, pictures.path, out=out, **QUICK)
    assert (result.task, result.label, result.tested_on) == ("classification", "striped", "test")
    assert result.subjects == {"train": 24, "validation": 8, "test": 8}
    assert result.seen_test_subjects == 0
    assert len(result.probes) == 2 * 2 * 2 * 2
    whole = result.probes[result.probes["fraction"] == 1.0]
    # stripes are easy, even for random convolutions
    assert whole["auroc"].max() > 0.9
    assert 1 <= result.rank["random"] <= result.rank_limit == 16
    written = json.loads((out / "evaluation.json").read_text())
    assert written["bundle"] == bundle.spec.weights_sha256
    assert len(pd.read_csv(out / "probes.csv")) == len(result.probes)
    assert (out / "probes.png").read_bytes()[:4] == b"\x89PNG"


def test_the_run_is_in_mlflow(pictures, tmp_path, mlflow_uri, save_bundle):
    from mlflow import MlflowClient

    bundle = save_bundle(tmp_path / "run" / "bundle", 2, [16, 16])
    result = evaluate(bundle.path, pictures.path, out=tmp_path / "evaluation", **QUICK)
    run = MlflowClient(mlflow_uri).get_run(result.mlflow_run)
    part = result.probes.query("arm == 'pretrained' and probe == 'knn' and fraction == 0.2")
    assert run.data.metrics["pretrained_knn_20pct_auroc"] == pytest.approx(part["auroc"].mean())
    assert run.data.tags["bundle"] == bundle.spec.weights_sha256


def test_scans_with_label_maps_are_probed_by_voxel(scans, tmp_path, save_bundle):
    bundle = save_bundle(tmp_path / "run" / "bundle", 3, [16, 12, 8])
    result = evaluate(bundle.path, scans.path, **QUICK)
    assert (result.task, result.classes) == ("segmentation", ["background", "organ"])
    whole = result.probes[result.probes["fraction"] == 1.0]
    # the organ is brighter: every encoder shows that
    assert whole["auroc"].min() > 0.9
    assert result.probes[result.probes["fraction"] == 0.2]["labelled_subjects"].unique() == [1]


def test_test_subjects_that_were_pretrained_on_are_refused_or_counted(
    pictures, tmp_path, save_bundle
):
    bundle = save_bundle(tmp_path / "run" / "bundle", 2, [16, 16], seen=["p0", "p8", "p9"])
    with pytest.raises(MedsslError) as caught:
        evaluate(bundle.path, pictures.path, **QUICK)
    assert caught.value.code == "SUBJECT_LEAK"
    result = evaluate(bundle.path, pictures.path, allow_seen=True, fractions=(1.0,), seeds=1)
    assert result.seen_test_subjects == 2


def test_without_a_test_split_validation_is_tested_on(pictures, tmp_path, save_bundle):
    table = pictures.manifest.set_index("subject_id")["split"]
    split = {s: "train" if name == "test" else name for s, name in table.items()}
    bundle = save_bundle(tmp_path / "run" / "bundle", 2, [16, 16])
    result = evaluate(bundle.path, pictures.path, split=split, fractions=(1.0,), seeds=1)
    assert result.tested_on == "validation"
    assert result.subjects == {"train": 32, "validation": 0, "test": 8}


def test_what_cannot_be_probed_is_refused(pictures, scans, tmp_path, save_bundle):
    flat = save_bundle(tmp_path / "run" / "bundle", 2, [16, 16])
    cases = [
        ((flat.path, pictures.path), {"label": "other"}, "LABEL_MISSING"),
        ((flat.path, scans.path), {}, "CONTRACT_MISMATCH"),
        ((flat.path, pictures.path), {"split": {"p0": "train"}}, "LABELS_TOO_FEW"),
        ((flat.path, pictures.path), {"fractions": (0.0,)}, "CONFIG_INVALID"),
        ((flat.path, pictures.path), {"out": tmp_path}, "OUT_EXISTS"),
    ]
    for arguments, options, code in cases:
        with pytest.raises(MedsslError) as caught:
            evaluate(*arguments, **{**QUICK, **options})
        assert caught.value.code == code


def test_one_class_in_the_test_split_is_refused(tmp_path, pictures, save_bundle, write_store):
    import numpy as np

    volumes = [
        {
            "subject": f"p{i}",
            "array": np.full((1, 8, 8), 10 + i, np.uint8) + np.eye(8, dtype=np.uint8)[None],
            "split": "test" if i > 5 else "train",
            "labels": {"x": int(i % 2 and i < 6)},
        }
        for i in range(8)
    ]
    store = write_store(tmp_path / "s", volumes)
    bundle = save_bundle(tmp_path / "run" / "bundle", 2, [8, 8])
    with pytest.raises(MedsslError) as caught:
        evaluate(bundle.path, store.path, **QUICK)
    assert caught.value.code == "LABELS_TOO_FEW"


def test_the_command_line(pictures, tmp_path, save_bundle):
    import typer

    from medssl.cli.evaluate import evaluate as verb

    app = typer.Typer()
    app.command()(verb)
    bundle = save_bundle(tmp_path / "run" / "bundle", 2, [16, 16])
    arguments = [str(bundle.path), str(pictures.path), "--fractions", "0.5", "--seeds", "2"]
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0, shown.output
    assert "striped" in shown.output
    assert "RankMe" in shown.output
    found = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert {line["verdict"] for line in found["differences"]} <= {
        "supported",
        "not supported",
        "inconclusive",
    }
