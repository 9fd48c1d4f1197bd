import json

import numpy as np
import pytest
import torch

from medssl.bundle import Bundle
from medssl.errors import MedsslError
from medssl.finetune import FinetuneConfig, finetune
from medssl.store import Store
from medssl.store.splits import assign_splits
from medssl.training.pretrain import PretrainConfig, pretrain

OPTIONS = {"widths": [4, 8]}
BASE = {"steps": 3, "batch_size": 2, "log_every": 1, "device": "cpu"}


def config(**more):
    return FinetuneConfig(**(BASE | more))


@pytest.fixture(scope="module")
def encoder(blob_store, tmp_path_factory):
    settings = PretrainConfig(method="mae", encoder_options=OPTIONS, **BASE)
    return pretrain(blob_store, tmp_path_factory.mktemp("p") / "run", settings).bundle


def test_segmentation_from_a_bundle(blob_store, encoder, tmp_path):
    result = finetune(
        "segmentation", blob_store, tmp_path / "run", config(), init=encoder, labels=2
    )
    assert len(result.train_subjects) == 2
    assert result.transfer.encoder_fraction == 1.0
    assert any(name.startswith("decoder.") for name in result.transfer.matched)
    assert {"test_dice", "test_nsd", "test_hd95_mm", "test_dice_ball"} <= set(result.metrics)
    split = assign_splits(Store.open(blob_store).manifest)
    assert {split[s] for s in result.test_subjects} == {"test"}
    assert {split[s] for s in result.train_subjects} == {"train"}
    bundle = Bundle.load(result.bundle)
    assert bundle.spec.kind == "segmentation"
    assert bundle.spec.label_names == {1: "ball"}
    dims = bundle.spec.contract.dims
    assert bundle.model()(torch.zeros(1, 1, *[16] * dims)).shape == (1, 2, *[16] * dims)
    assert all(bundle.spec.has_seen(s) for s in result.train_subjects)
    report = json.loads((tmp_path / "run" / "transfer.json").read_text())
    assert report["encoder_fraction"] == 1.0


def test_the_window_of_prediction_may_differ_from_the_crops(blob_store, tmp_path):
    dims = Store.open(blob_store)["vol-0"].dims
    settings = config(patch_size=[8] * dims, window=[16] * dims, encoder_options=OPTIONS)
    result = finetune("segmentation", blob_store, tmp_path / "run", settings)
    assert Bundle.load(result.bundle).spec.contract.patch_size == [16] * dims


def test_views_that_cannot_happen_to_the_scans_are_refused(blob_store, tmp_path):
    settings = config(augment={"window": [0.5, 1.0]}, encoder_options=OPTIONS)
    with pytest.raises(MedsslError, match="window cannot happen to MR"):
        finetune("segmentation", blob_store, tmp_path / "run", settings)
    assert not (tmp_path / "run").exists()


def test_segmentation_learns_the_ball(blob_store, tmp_path):
    settings = config(steps=100, lr=0.02, batch_size=4, encoder_options=OPTIONS)
    result = finetune("segmentation", blob_store, tmp_path / "run", settings)
    assert result.metrics["test_dice"] > 0.8


def test_classification_learns_the_side(blob_store, tmp_path):
    settings = config(steps=100, lr=0.02, batch_size=4, encoder_options={"widths": [8, 16]})
    result = finetune("classification", blob_store, tmp_path / "run", settings, label="side")
    assert Bundle.load(result.bundle).spec.classes == ["0", "1"]
    assert {"test_auroc", "test_average_precision", "test_balanced_accuracy"} <= set(result.metrics)
    assert result.history.rows[-1]["loss"] < 0.5 * result.history.rows[0]["loss"]


def test_regression_learns_the_number(blob_store, tmp_path):
    settings = config(
        steps=100, lr=0.02, batch_size=4, encoder_options={"widths": [8, 16]}, report=["validation"]
    )
    result = finetune("regression", blob_store, tmp_path / "run", settings, label="side")
    assert set(result.metrics) == {"validation_mae", "validation_r", "validation_r2"}
    assert result.history.rows[-1]["loss"] < 0.5 * result.history.rows[0]["loss"]
    spec = Bundle.load(result.bundle).spec
    numbers = [int(s.split("-")[1]) % 2 for s in result.train_subjects]
    assert (spec.target.name, spec.target.mean) == ("side", pytest.approx(np.mean(numbers)))
    assert spec.target.std == pytest.approx(np.std(numbers))
    assert spec.architecture.task.classes == 1
    # in the number's own unit, not in deviations
    assert np.allclose(result.cases["target"].unique() % 1, 0)
    error = (result.cases["predicted"] - result.cases["target"]).abs().mean()
    assert result.metrics["validation_mae"] == pytest.approx(error)


def test_regression_does_not_zoom_unless_told():
    assert config().of_kind("segmentation").augment.scale == (0.85, 1.15)
    assert config().of_kind("regression").augment.scale == (1.0, 1.0)
    told = config(augment={"scale": [0.9, 1.1]})
    assert told.of_kind("regression").augment.scale == (0.9, 1.1)


def test_a_frozen_encoder_stays_as_it_was(blob_store, encoder, tmp_path):
    result = finetune(
        "segmentation", blob_store, tmp_path / "run", config(freeze=True), init=encoder
    )
    before, after = Bundle.load(encoder).state(), Bundle.load(result.bundle).state()
    names = [name for name in after if name.startswith("encoder.")]
    assert names
    assert all(torch.equal(before[name], after[name]) for name in names)
    changed = [n for n in after if n in before and before[n].shape == after[n].shape]
    assert any(not torch.equal(before[n], after[n]) for n in changed)


def test_what_came_over_learns_slower_than_what_is_fresh(blob_store, encoder, tmp_path):
    results = [
        finetune("segmentation", blob_store, tmp_path / f"{lr}", settings, init=encoder)
        for lr in (1e-9, 0.1)
        for settings in [config(transfer_lr=1e-6, lr=lr, report=[])]
    ]
    start, end = (Bundle.load(result.bundle).state() for result in results)
    moved = {name: float((start[name] - end[name]).abs().max()) for name in start}
    report = results[1].transfer
    assert "encoder.levels.0.0.conv1.weight" in report.matched
    assert max(moved[name] for name in report.matched) < 1e-5
    assert min(moved[name] for name in report.fresh) > 0.01


def test_another_encoder_fails_loudly(blob_store, encoder, tmp_path):
    settings = config(encoder_options={"widths": [8, 8]})
    with pytest.raises(MedsslError, match="TRANSFER_TOO_LITTLE"):
        finetune("segmentation", blob_store, tmp_path / "run", settings, init=encoder)
    assert not (tmp_path / "run").exists()


def test_pretraining_on_test_subjects_is_a_leak(blob_store, tmp_path):
    settings = PretrainConfig(method="mae", encoder_options=OPTIONS, hold_out=[], **BASE)
    leaky = pretrain(blob_store, tmp_path / "p", settings).bundle
    with pytest.raises(MedsslError, match="SUBJECT_LEAK"):
        finetune("segmentation", blob_store, tmp_path / "run", config(), init=leaky)


@pytest.mark.parametrize(
    ("kind", "more", "code"),
    [
        ("segmentation", {"labels": 99}, "LABELS_TOO_FEW"),
        ("segmentation", {"labels": 1.5}, "CONFIG_INVALID"),
        ("classification", {"label": "age"}, "LABEL_MISSING"),
        ("classification", {"labels": 1}, "LABELS_TOO_FEW"),
        ("regression", {"label": "age"}, "LABEL_MISSING"),
        ("regression", {"labels": 1}, "LABELS_TOO_FEW"),
    ],
)
def test_wrong_requests_are_refused(blob_store, tmp_path, kind, more, code):
    with pytest.raises(MedsslError, match=code):
        finetune(kind, blob_store, tmp_path / "run", config(), **more)
