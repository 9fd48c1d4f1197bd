"""Runs that are broken on purpose stop and keep their step; healthy ones are let alone."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from method_cases import case
from safetensors.torch import load_file
from torch import nn

from medssl.errors import MedsslError
from medssl.methods import METHODS
from medssl.methods.simclr import SimCLR
from medssl.store import LedgerRow, Outcome, Store, StoreInfo, StoreWriter, VolumeRecord
from medssl.training import pretrain_task
from medssl.training.data import loader
from medssl.training.prepare import prepare
from medssl.training.pretrain import PretrainConfig, pretrain, resolve
from medssl.training.replay_run import replay_run

SMALL = {"encoder": "unet", "encoder_options": {"widths": [8, 16]}, "device": "cpu"}
BROKEN = {
    "steps": 80, "batch_size": 8, "lr": 3e-3, "log_every": 2, "checkpoint_every": 20,
    "preview_every": 1000, "watch": {"grace": 20, "patience": 5},
}  # fmt: skip


def config(method="simclr", **more):
    return PretrainConfig(method=method, **(SMALL | BROKEN | more))


@pytest.fixture(scope="module")
def store(blob_store):
    return blob_store if Store.open(blob_store)["vol-0"].dims == 2 else pytest.skip("2D says it")


class NoNegatives(nn.Module):
    """SimCLR without its negatives: the loss is least where everything is the same."""

    def forward(self, first, second):
        """Mean squared distance of the positives."""
        return (F.normalize(first, dim=1) - F.normalize(second, dim=1)).square().sum(1).mean()


def without_negatives(monkeypatch):
    made = SimCLR.__init__

    def make(self, *args):
        made(self, *args)
        self._loss = NoNegatives()

    monkeypatch.setattr(SimCLR, "__init__", make)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "at one point"),
        ({"options": {"temperature": 1e4}}, "gives every image the same"),
    ],
    ids=["no negatives", "temperature"],
)
def test_a_run_that_is_broken_on_purpose_stops(store, tmp_path, monkeypatch, change, words):
    if not change:
        without_negatives(monkeypatch)
    with pytest.raises(MedsslError, match="TRAINING_COLLAPSED") as caught:
        pretrain(store, tmp_path / "run", config(**change))
    assert words in caught.value.what
    assert "--replay" in caught.value.fix
    (kept,) = (tmp_path / "run" / "replay").iterdir()
    record = json.loads((kept / "replay.json").read_text())
    assert kept.name == f"step-{record['step']:08d}"
    assert caught.value.where == f"step {record['step']}"


@pytest.mark.parametrize("method", ["simclr", "mae"])
def test_a_healthy_run_is_let_alone_and_measured(store, tmp_path, method):
    result = pretrain(store, tmp_path / "run", config(method))
    last = result.history.rows[-1]
    assert {"loss", "gradient_norm", "effective_rank", "embedding_std"} <= set(last)
    assert ("alignment" in last) == ("uniformity" in last) == (method == "simclr")
    speed = result.history.speed
    assert [row["step"] for row in speed] == [row["step"] for row in result.history.rows]
    assert all(0 <= row["data_fraction"] <= 1 and row["samples_per_second"] > 0 for row in speed)
    assert not (tmp_path / "run" / "replay").exists()


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize(
    ("method", "encoder"), [(name, encoder) for name in METHODS for encoder in case(name).encoders]
)
def test_healthy_runs_on_chest_x_rays_are_let_alone(data_root, tmp_path, method, encoder):
    """No threshold was chosen on these images."""
    images = np.load(data_root / "pneumonia2d" / "pneumoniamnist.npz", allow_pickle=False)
    with StoreWriter(tmp_path / "store", StoreInfo()) as writer:
        rows = []
        for i, image in enumerate(images["train_images"][:400]):
            name = f"vol-{i}"
            writer.add_volume(VolumeRecord(name, name, name, name, "CR"), image[None], None, None)
            rows.append(LedgerRow(name, Outcome.USED, volume_id=name))
        writer.finish(rows, len(rows))
    options = {
        "unet": {"encoder_options": {"widths": [16, 32, 64]}},
        "vit": {"encoder": "vit", "encoder_options": {
            "patch_size": 4, "embed_dim": 96, "depth": 3, "heads": 3}},
    }  # fmt: skip
    settings = config(
        method, **options[encoder], steps=150, batch_size=32, lr=1e-3, log_every=5,
        patch_size=[12, 12] if case(method).patch else [28, 28], watch={"grace": 50},
    )  # fmt: skip
    assert pretrain(tmp_path / "store", tmp_path / "run", settings).history.rows[-1]["step"] == 150


def test_the_step_that_broke_a_run_is_kept_and_shown_again(store, tmp_path, monkeypatch):
    """The rows are read at step 10; the checkpoint due at 9 must not be one of ruined weights."""
    settings = config("mae", steps=20, batch_size=4, log_every=5, checkpoint_every=3)
    opened = Store.open(store)
    resolved, ids = resolve(opened, settings)
    source = prepare(opened, resolved, ids, tmp_path / "run").source
    bad = next(iter(loader(source, 4, 6, 7, 0)))  # of step 7
    real = pretrain_task.normalised

    def spoiled(batch):
        hit = (batch["key"] == bad["key"][1]).reshape(-1, 1, 1, 1)
        return real(batch).masked_fill(hit, float("inf"))

    monkeypatch.setattr(pretrain_task, "normalised", spoiled)
    out = tmp_path / "run"
    with pytest.raises(MedsslError, match="TRAINING_DIVERGED") as caught:
        pretrain(store, out, settings)
    assert caught.value.where == "step 7"
    folder = out / "replay" / "step-00000007"
    record = json.loads((folder / "replay.json").read_text())
    assert record["checkpoint"] == "step-00000006"
    assert record["samples"] == [24, 28]
    kept = load_file(folder / "batch.safetensors")
    assert all(torch.equal(kept[name], bad[name]) for name in kept)
    names = sorted(path.name for path in (out / "checkpoints").glob("step-*"))
    assert names == ["step-00000003", "step-00000006"]

    found = replay_run(store, out)
    assert found.step == 7
    first = found.seen[found.first_bad]
    assert (first.kind, first.name.split(".")[:3]) == (
        "output",
        ["method", "reconstructor", "encoder"],
    )
    kinds = [tensor.kind for tensor in found.seen]
    assert kinds.index("input") < kinds.index("weight") < kinds.index("output")
    assert {"loss", "gradient"} <= set(kinds)
    assert not list(out.glob(".replay-*"))


def test_what_is_kept_never_leaves_the_folder(store, tmp_path, monkeypatch):
    from mlflow import MlflowClient

    from medssl import tracking

    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.default_uri(tmp_path))
    without_negatives(monkeypatch)
    with pytest.raises(MedsslError):
        pretrain(store, tmp_path / "run", config())
    client = MlflowClient(tracking.default_uri(tmp_path))
    (run,) = client.search_runs([client.get_experiment_by_name("medssl-pretrain").experiment_id])
    assert run.data.tags["error"] == "TRAINING_COLLAPSED"
    assert "replay" not in {file.path for file in client.list_artifacts(run.info.run_id)}


def test_without_a_kept_step_there_is_nothing_to_replay(store, tmp_path):
    with pytest.raises(MedsslError, match="INPUT_MISSING"):
        replay_run(store, tmp_path)
