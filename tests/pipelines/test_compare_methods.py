"""The comparison of methods, small: blobs of several sizes, and stripes instead of pneumonia."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml

from medssl.bundle import EncoderSpec
from medssl.config import load
from medssl.errors import MedsslError
from medssl.methods import METHODS, Samples
from medssl.networks import build_encoder
from medssl.store import Store
from medssl.studies import compare
from medssl.studies.settings import Study

ROOT = Path(__file__).resolve().parents[2]
TINY = {
    "seeds": 2,
    "data": {
        "blobs": {
            "folder": "blobs",
            "modality": "MR",
            "label_names": {1: "blob"},
            "encoders": {"unet": {"widths": [4, 8]}},
            "passes": 8,
            "pretrain": {"patch_size": [12, 12, 12], "batch_size": 4},
            "tasks": {
                "blob": {
                    "kind": "segmentation",
                    "finetuned": [1],
                    "finetune": {"steps": 2, "batch_size": 2},
                },
                "size": {"kind": "regression", "frozen": [1.0]},
            },
        },
        "stripes": {
            "folder": "stripes",
            "encoders": {"unet": {"widths": [4, 8]}},
            "passes": 8,
            "pretrain": {"patch_size": [28, 28], "batch_size": 4},
            "methods": {"mae": {"lr": 2.0e-3}},
            "tasks": {
                "stripe": {
                    "kind": "classification",
                    "frozen": [0.5, 1.0],
                    "finetuned": [0.5],
                    "finetune": {"steps": 2, "batch_size": 4},
                }
            },
        },
    },
}


@pytest.fixture(scope="module")
def pipeline():
    path = ROOT / "pipelines" / "compare_methods.py"
    spec = importlib.util.spec_from_file_location("compare_methods", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def write_blobs(folder, count=12):
    generator = np.random.default_rng(0)
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    away = np.linalg.norm(np.indices((12, 12, 12)) - 5.5, axis=0)
    lines = ["file,subject"]
    for i in range(count):
        label = (away < 2 + 3 * i / count).astype(np.uint8)
        image = generator.normal(100, 8, label.shape) + 60 * label
        for kind, array in (("images", image.astype(np.int16)), ("labels", label)):
            nib.save(nib.Nifti1Image(array, np.eye(4)), folder / kind / f"b{i}.nii.gz")
        lines.append(f"b{i}.nii.gz,S{i}")
    (folder / "subjects.csv").write_text("\n".join(lines) + "\n")


def write_stripes(folder):
    folder.mkdir()
    generator = np.random.default_rng(0)
    arrays = {}
    for name, count in (("train", 24), ("val", 8)):
        labels = np.arange(count)[:, None] % 2
        images = generator.normal(120, 20, (count, 28, 28))
        images[labels[:, 0] == 1, ::2] += 60
        arrays[f"{name}_images"] = images.clip(0, 255).astype(np.uint8)
        arrays[f"{name}_labels"] = labels.astype(np.uint8)
    np.savez(folder / "stripesmnist.npz", **arrays)


@pytest.fixture(scope="module")
def finished(pipeline, tmp_path_factory):
    """Source, config and output of a comparison that was run with one method, then with two."""
    folder = tmp_path_factory.mktemp("compare")
    write_blobs(folder / "blobs")
    write_stripes(folder / "stripes")
    config = folder / "tiny.yaml"
    config.write_text(yaml.safe_dump(TINY))
    out = folder / "out"
    pipeline.main(folder, out, ["method=mae", "tasks=[blob,size]"], config)
    pipeline.main(folder, out, ["method=[mae,simclr]", "tasks=stripe"], config)
    return folder, config, out


def test_the_results_have_every_cell(finished):
    _, _, out = finished
    table = pd.read_csv(out / "results.csv", dtype={"labels": str})
    by_task = table.groupby("task")
    blob = by_task.get_group("blob")
    assert set(blob["method"]) == {"scratch", "mae"}
    assert set(blob["metric"]) == {"dice", "nsd", "hd95_mm"}
    assert set(blob["labels"]) == {"1"}
    size = by_task.get_group("size")
    assert set(size["readout"]) == {"ridge", "features"}
    stripe = by_task.get_group("stripe").query("metric == 'auroc'")
    # 2 seeds; knn and linear at 2 shares of labels, fine-tuned at one; control and two methods
    assert len(stripe) == 2 * (2 * 2 + 1) * 3
    assert stripe["value"].between(0, 1).all()
    assert not table["value"].isna().any()


def test_methods_have_equal_encoder_passes(finished):
    _, _, out = finished
    table = pd.read_csv(out / "results.csv")
    own = table[(table["task"] == "stripes") & (table["seed"] == 0)]
    steps = own[own["metric"] == "steps"].set_index("method")["value"]
    assert steps.to_dict() == {"mae": 2, "simclr": 1}
    assert set(own.loc[own["metric"] == "encoder_passes", "value"]) == {8}


def test_what_was_not_trained_on_is_tested_on(finished):
    from medssl.bundle import Bundle
    from medssl.store import Store
    from medssl.studies.data import study_split

    _, _, out = finished
    for name in ("blobs", "stripes"):
        split = study_split(Store.open(out / "stores" / name))
        assert set(split.values()) == {"train", "validation", "test"}
        for bundle in out.glob(f"pretrained/pretraining_{name}_*/bundle"):
            spec = Bundle.load(bundle).spec
            assert not any(spec.has_seen(s) for s, side in split.items() if side == "test")


def test_the_summary_is_of_pairs_and_says_inconclusive(finished):
    _, _, out = finished
    found = pd.read_csv(out / "summary.csv", dtype={"labels": str})
    assert set(found["pairs"]) == {2}
    text = (out / "summary.md").read_text()
    assert "| stripe | knn | 50 % | auroc | unet | simclr |" in text
    assert "inconclusive" in text
    assert (out / "compare_methods.png").read_bytes()[:4] == b"\x89PNG"


def test_what_is_done_is_not_done_again_and_what_is_lost_is(
    pipeline, finished, monkeypatch, capsys
):
    folder, config, out = finished
    before = (out / "results.csv").read_text()
    lost = out / "cells" / "frozen_stripe_mae_unet_1.json"
    lost.unlink()
    monkeypatch.setattr(pipeline, "report", lambda found: "reported")
    pipeline.main(folder, out, ["method=[mae,simclr]", "tasks=stripe"], config, True)
    said = capsys.readouterr().out
    assert "16 cells, 1 to do" in said
    assert "mae does 1 encoder passes a sample" in said
    assert not lost.exists()
    pipeline.main(folder, out, ["method=[mae,simclr]", "tasks=stripe"], config)
    assert "1 of 1  frozen_stripe_mae_unet_1" in capsys.readouterr().out
    found = compare.comparison(
        load(Study, config, ["method=[mae,simclr]", "tasks=stripe"]), folder, out
    )
    found.records.table().to_csv(out / "again.csv", index=False)
    assert (out / "again.csv").read_text() == before


def test_another_configuration_is_refused(pipeline, finished):
    folder, config, out = finished
    for change in ("data.stripes.passes=16", "data.stripes.methods.mae.lr=0.5"):
        with pytest.raises(MedsslError, match="RESUME_MISMATCH"):
            pipeline.main(folder, out, ["method=mae", "tasks=stripe", change], config)


def test_a_method_that_collapses_does_not_stop_the_others(pipeline, finished, monkeypatch):
    folder, config, out = finished

    def collapsed(*_):
        raise MedsslError("TRAINING_COLLAPSED", "All alike")

    lost = [out / "cells" / f"{kind}_mae_unet_1.json" for kind in
            ("pretraining_stripes", "frozen_stripe", "fine-tuned_stripe")]  # fmt: skip
    lost[2] = lost[2].with_name("fine-tuned_stripe_mae_unet_50pct_1.json")
    kept = {file: file.read_text() for file in lost}
    for file in lost:
        file.unlink()
    monkeypatch.setattr("medssl.studies.measure.pretrained", collapsed)
    pipeline.main(folder, out, ["method=mae", "tasks=stripe"], config)
    assert (
        "pretraining_stripes_mae_unet_1 ended with TRAINING_COLLAPSED"
        in (out / "summary.md").read_text()
    )
    for file, text in kept.items():
        file.write_text(text)


def test_a_method_that_refuses_one_encoder_takes_the_next(finished):
    _, _, out = finished
    store, data = Store.open(out / "stores" / "stripes"), load(Study, values=TINY).data["stripes"]
    vit = {"patch_size": 4, "embed_dim": 24, "depth": 1, "heads": 2}
    both = data.model_copy(update={"encoders": {**data.encoders, "vit": vit}})
    found = compare.fitting_encoders(both, store, ["mp3", "rotation"], out)
    assert found.encoders == {"mp3": "vit", "rotation": "unet"}
    assert {name: cost.passes for name, cost in found.costs.items()} == {"mp3": 1, "rotation": 1}
    assert found.refused == {}
    uneven = data.model_copy(
        update={"encoders": {**data.encoders, "vit": {**vit, "patch_size": 5}}}
    )
    found = compare.fitting_encoders(uneven, store, ["mp3"], out)
    assert found.encoders == {}
    assert re.match(
        "unet: .*vision transformer.*; vit: .*whole number of cells", found.refused["mp3"]
    )


def test_what_trains_another_encoder_is_compared_with_that_one(pipeline, finished, tmp_path):
    folder, config, _ = finished
    pipeline.main(folder, tmp_path, ["method=image_volume", "tasks=[blob,size]"], config)
    table = pd.read_csv(tmp_path / "results.csv")
    assert set(table["encoder"]) == {"slices"}
    for task, control in (("blob", "scratch"), ("size", "random")):
        assert set(table[table["task"] == task]["method"]) == {control, "image_volume"}


@pytest.mark.parametrize("preset", ["cpu", "gpu"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_a_row_of_every_data_set(preset, method):
    """With the patch of its preset, one of the encoders there can be built into it."""
    study = load(Study, ROOT / "configs" / "compare_methods" / f"{preset}.yaml")
    kind = METHODS[method]
    for data in study.data.values():
        patch, reasons = data.pretrain["patch_size"], []
        for encoder, options in data.encoders.items():
            try:
                asked = EncoderSpec(name=encoder, dims=len(patch), options=options)
                spec = kind.encoder_for(asked)
                built = build_encoder(spec.name, spec.dims, 1, **spec.options)
                kind(kind.Config(), built, Samples(tuple(patch), 64))
                break
            except ValueError as error:
                reasons.append(f"{encoder}: {error}")
        else:
            pytest.fail(f"{method} is left out on {data.folder}: {reasons}")


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_presets_are_valid(name):
    study = load(Study, ROOT / "configs" / "compare_methods" / f"{name}.yaml")
    assert study.seeds >= 3
    kinds = {task.kind for data in study.data.values() for task in data.tasks.values()}
    assert kinds == {"segmentation", "classification", "regression"}
    for data in study.data.values():
        for encoder in data.encoders:
            assert data.pretraining("simclr", encoder, 0, 1).batch_size > 1
