import json

import pytest
import torch

from medssl.bundle import Bundle
from medssl.errors import MedsslError
from medssl.store import Store
from medssl.training.folder import more_steps, open_folder
from medssl.training.pretrain import PretrainConfig, pretrain

BASE = {
    "steps": 10, "batch_size": 4, "log_every": 1, "checkpoint_every": 3, "device": "cpu",
    "encoder_options": {"widths": [4, 8]}, "preview_every": 1000, "schedule": "wsd",
    "wsd_decay": 0.2,
}  # fmt: skip


def config(**more):
    return PretrainConfig(**(BASE | more))


def test_a_run_goes_on_from_where_its_annealing_began(blob_store, tmp_path):
    first = pretrain(blob_store, tmp_path / "run", config())
    annealed = Bundle.load(first.bundle).state()
    assert [p.name for p in (tmp_path / "run/checkpoints/hold").iterdir()] == ["step-00000008"]
    more = more_steps(tmp_path / "run", ["steps=+6"])
    assert more == ["steps=16"]
    second = pretrain(blob_store, tmp_path / "run", config(steps=16), resume=True)
    # An equal run in one go: the same lengths in steps, as fractions of 16.
    lengths = {"warmup": 0.05 * 10 / 16, "wsd_cooldown": 0.2 * 10 / 16, "wsd_decay": 0.2 * 10 / 16}
    whole = pretrain(blob_store, tmp_path / "whole", config(steps=16, **lengths))
    a, b = Bundle.load(second.bundle).state(), Bundle.load(whole.bundle).state()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not all(torch.equal(a[name], annealed[name]) for name in a)
    assert second.history.rows == whole.history.rows
    assert more_steps(tmp_path / "run", ["steps=+6", "lr=1"]) == ["steps=22", "lr=1"]


def test_the_same_command_after_an_interruption_means_the_same(blob_store, tmp_path):
    pretrain(blob_store, tmp_path / "run", config())
    store = Store.open(blob_store)
    record = json.loads((tmp_path / "run/run.json").read_text())
    longer = {**record["config"], "steps": 16}
    open_folder(tmp_path / "run", longer, store.fingerprint(), record["subjects"], True)
    # Killed here: nothing of the further steps is done.
    assert more_steps(tmp_path / "run", ["steps=+6"]) == ["steps=16"]
    found = json.loads((tmp_path / "run/run.json").read_text())
    assert found["mlflow_run"] == record["mlflow_run"]
    assert found["earlier_steps"] == 10


def test_further_steps_may_see_further_scans_and_all_are_remembered(blob_store, tmp_path):
    every = sorted(set(Store.open(blob_store).manifest["subject_id"]))
    first = pretrain(blob_store, tmp_path / "run", config(), subjects=every[:6])
    second = pretrain(
        blob_store, tmp_path / "run", config(steps=12), subjects=every[4:], resume=True
    )
    assert first.subjects == every[:6]
    bundle = Bundle.load(second.bundle)
    assert all(bundle.spec.has_seen(subject) for subject in every)


def test_what_may_differ_on_resume(tmp_path):
    before = {"steps": 10, "lr": 0.1, "devices": None, "schedule": "cosine"}
    out = tmp_path / "run"
    open_folder(out, before, "f", ["a"], False)
    assert open_folder(out, {**before, "devices": 4}, "f", ["a"], True) == ""
    for config, fingerprint, where in (
        ({**before, "lr": 0.2}, "f", "lr"),
        ({**before, "steps": 20}, "f", "steps"),
        (before, "g", "store"),
    ):
        with pytest.raises(MedsslError, match="RESUME_MISMATCH") as caught:
            open_folder(out, config, fingerprint, ["a"], True)
        assert caught.value.where == where
    assert json.loads((out / "run.json").read_text())["config"] == before


def test_how_a_run_is_watched_may_change(tmp_path):
    def opened(resume, **more):
        record = config(**more).model_dump(mode="json")
        return open_folder(tmp_path / "run", record, "fingerprint", ["subject"], resume)

    opened(False)
    opened(True, watch={"on_collapse": "warn"})
    with pytest.raises(MedsslError, match="RESUME_MISMATCH"):
        opened(True, watch={"on_collapse": "warn"}, lr=0.5)
