"""A method that reads a frozen bundle: it must fit, and is recorded by its weights alone."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from method_cases import case

from medssl.bundle import Bundle
from medssl.errors import MedsslError
from medssl.store import Store
from medssl.training.pretrain import PretrainConfig, pretrain

BASE = {
    "encoder": "unet", "encoder_options": {"widths": [4, 8]}, "steps": 4, "batch_size": 4,
    "log_every": 1, "checkpoint_every": 2, "device": "cpu",
}  # fmt: skip


def config(method, options, **more):
    return PretrainConfig(method=method, options=options, **(BASE | more))


def alice(bundle, **more):
    options = {**case("alice").options, "alignment": "embedding", "embedding": str(bundle)}
    return config("alice", {**options, "score": -1.0}, **more)


@pytest.fixture(scope="module")
def places(blob_store, tmp_path_factory):
    """An embedding that has seen one subject alone."""
    out = tmp_path_factory.mktemp("places")
    options = case("anatomical_embedding").options
    subjects = sorted({r.subject_id for r in Store.open(blob_store).manifest.itertuples()})[:2]
    asked = config("anatomical_embedding", options, steps=1)
    return pretrain(blob_store, out / "run", asked, subjects=subjects).bundle


def test_a_run_with_an_embedding_says_whose_and_not_where(blob_store, places, tmp_path):
    others = sorted({r.subject_id for r in Store.open(blob_store).manifest.itertuples()})[2:]
    asked = alice(places, steps=2)
    result = pretrain(blob_store, tmp_path / "run", asked, subjects=others)
    bundle, parent = Bundle.load(result.bundle), Bundle.load(places)
    name = f"sha256:{parent.spec.weights_sha256}"
    assert bundle.spec.config["options"]["embedding"] == name
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["config"]["options"]["embedding"] == name
    told = [
        p for p in tmp_path.rglob("*") if p.is_file() and str(places).encode() in p.read_bytes()
    ]
    assert told == []  # MLflow's database and artifacts among them
    # Whom the embedding has seen, the new weights have seen by it.
    seen = sorted({r.subject_id for r in Store.open(blob_store).manifest.itertuples()})
    assert all(bundle.spec.has_seen(s) for s in seen)
    assert "score" in result.history.rows[0]
    assert not any("embedding" in key for key in bundle.state())


def test_it_is_resumed_exactly_and_with_the_same_weights_alone(
    blob_store, places, tmp_path, monkeypatch
):
    whole = pretrain(blob_store, tmp_path / "whole", alice(places))
    from medssl.methods.alice import Alice

    steps, original = [], Alice.step

    def step(self, crops):
        steps.append(1)
        if len(steps) == 4:
            raise KeyboardInterrupt
        return original(self, crops)

    with monkeypatch.context() as patch:
        patch.setattr(Alice, "step", step)
        with pytest.raises((KeyboardInterrupt, MedsslError)):
            pretrain(blob_store, tmp_path / "cut", alice(places))
    copy = tmp_path / "copy"
    shutil.copytree(places, copy)
    other = pretrain(
        blob_store,
        tmp_path / "other",
        config("anatomical_embedding", case("anatomical_embedding").options, steps=1, seed=1),
    )
    with pytest.raises(MedsslError, match="RESUME_MISMATCH"):
        pretrain(blob_store, tmp_path / "cut", alice(other.bundle), resume=True)
    resumed = pretrain(blob_store, tmp_path / "cut", alice(copy), resume=True)
    first, second = (Bundle.load(r.bundle).state() for r in (whole, resumed))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_an_embedding_of_other_images_is_refused(blob_store, places, tmp_path):
    dims = Bundle.load(places).spec.contract.dims
    with pytest.raises(MedsslError, match=r"CONTRACT_MISMATCH.*another spacing"):
        pretrain(blob_store, tmp_path / "run", alice(places, spacing=[2.0] * dims))
    assert not (tmp_path / "run").exists()


def test_a_bundle_must_be_there_and_have_an_embedding(blob_store, tmp_path):
    with pytest.raises(MedsslError, match="INPUT_MISSING"):
        pretrain(blob_store, tmp_path / "run", alice(tmp_path / "nothing"))
    plain = pretrain(blob_store, tmp_path / "mae", config("mae", case("mae").options, steps=1))
    with pytest.raises(MedsslError, match="EMBEDDING_MISSING"):
        pretrain(blob_store, tmp_path / "run", alice(plain.bundle))
