"""The chest X-ray pipeline, small: stripes instead of pneumonia."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[2]
OVERRIDES = [
    "fractions=[0.2,1.0]",
    "seeds=2",
    "methods.simclr.steps=2",
    "methods.simclr.batch_size=8",
    "methods.simclr.encoder_options.widths=[8,8]",
    "methods.mae.steps=2",
    "methods.mae.batch_size=8",
    "methods.mae.encoder_options.depth=1",
]


@pytest.fixture(scope="module")
def pipeline():
    path = ROOT / "pipelines" / "classification_probe.py"
    spec = importlib.util.spec_from_file_location("classification_probe", path)
    module = importlib.util.module_from_spec(spec)
    # pydantic looks annotations up there
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def finished(pipeline, tmp_path_factory):
    """The pipeline's output folder on 60 pictures of the shape of the real archive."""
    folder = tmp_path_factory.mktemp("probe")
    generator = np.random.default_rng(0)
    arrays = {}
    for name, count in (("train", 40), ("val", 20)):
        labels = np.arange(count)[:, None] % 2
        images = generator.normal(120, 20, (count, 28, 28))
        images[labels[:, 0] == 1, ::2] += 60
        arrays[f"{name}_images"] = images.clip(0, 255).astype(np.uint8)
        arrays[f"{name}_labels"] = labels.astype(np.uint8)
    np.savez(folder / "stripesmnist.npz", **arrays)
    out = folder / "out"
    pipeline.main(folder / "stripesmnist.npz", out, OVERRIDES)
    return folder, out


def test_the_tables_are_whole(finished):
    _, out = finished
    probes, summary = pd.read_csv(out / "probes.csv"), pd.read_csv(out / "summary.csv")
    # 2 methods and their controls, 2 probes, 2 fractions, 2 seeds
    assert len(probes) == 4 * 2 * 2 * 2
    assert len(summary) == 2 * 2 * 2 * 3
    assert set(summary["pairs"]) == {2}
    some = summary.query("arm == 'mae' and probe == 'knn' and fraction == 1 and metric == 'auroc'")
    part = probes.query("probe == 'knn' and fraction == 1").groupby("arm")["auroc"].mean()
    assert some["difference"].item() == pytest.approx(part["mae"] - part["random vit of mae"])
    assert probes["auroc"].between(0, 1).all()
    assert "| simclr | linear | 20 % | auroc |" in (out / "summary.md").read_text()
    assert (out / "classification_probe.png").read_bytes()[:4] == b"\x89PNG"


def test_the_archives_validation_split_is_the_test_set(pipeline, finished):
    from medssl.bundle import Bundle
    from medssl.store import Store

    _, out = finished
    store = Store.open(out / "store")
    study = pipeline.Study(methods={}, seeds=2)
    rows, ids = pipeline.labelled_rows(store, study)
    stated = store.manifest.set_index("volume_id").loc[ids, "split"]
    assert ((stated == "validation").to_numpy() == (rows.split == "test")).all()
    assert [len(rows.subjects(s)) for s in ("train", "validation", "test")] == [36, 4, 20]
    for bundle in sorted(out.glob("pretrained/*/bundle")):
        spec = Bundle.load(bundle).spec
        assert not any(spec.has_seen(subject) for subject in rows.subjects("test"))
        assert all(spec.has_seen(subject) for subject in rows.subjects("train"))


def test_a_second_run_uses_what_is_there(pipeline, finished):
    folder, out = finished
    before = {p: p.stat().st_mtime_ns for p in out.glob("pretrained/*/bundle/*")}
    table = (out / "probes.csv").read_text()
    pipeline.main(folder / "stripesmnist.npz", out, OVERRIDES)
    assert {p: p.stat().st_mtime_ns for p in out.glob("pretrained/*/bundle/*")} == before
    assert (out / "probes.csv").read_text() == table
