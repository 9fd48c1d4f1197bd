"""Whether 2D and 3D together are worth it: what made-up results lead to, and a small real run."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medssl.config import load
from medssl.store import Store
from medssl.studies.claims import Claim

ROOT = Path(__file__).resolve().parents[2]
PRESET = ROOT / "configs/claims/joint_dimensions.yaml"

_spec = importlib.util.spec_from_file_location(
    "joint_dimensions", ROOT / "pipelines/claims/joint_dimensions.py"
)
claim = importlib.util.module_from_spec(_spec)
sys.modules["joint_dimensions"] = claim
_spec.loader.exec_module(claim)


def results(joint, gradient, tuned_joint=0.0):
    """AUROC of 0.7, plus what joint training and the gradient's decoder add, by seed."""
    rows = []
    arms = itertools.product(range(3), ("2d", "3d"), ("frozen", "fine-tuned"), (False, True))
    for seed, kind, readout, on in arms:
        for trained in (kind, "both"):
            more = (joint if readout == "frozen" else tuned_joint) * (trained == "both")
            # what varies from seed to seed, in the joint and in the gradient's arms
            noise = 0.001 * (seed - 1) * ((trained == "both") + on)
            value = 0.7 + 0.01 * seed + more + gradient * on + noise
            rows.append((seed, trained, on, kind, readout, value))
        if not on:
            rows.append((seed, "random", on, kind, readout, 0.5))
    names = ["seed", "trained", "gradient", "kind", "readout", "auroc"]
    return pd.DataFrame(rows, columns=names)


@pytest.mark.parametrize(
    ("joint", "gradient", "verdict"),
    [
        (0.02, 0.02, "supported"),
        (-0.005, 0.02, "supported"),  # behind, and within the margin
        (-0.02, 0.02, "not supported"),
        (-0.01, 0.02, "inconclusive"),
        (0.02, -0.02, "not supported"),
        (0.02, 0.0, "inconclusive"),
    ],
)
def test_frozen_features_decide(joint, gradient, verdict):
    found = claim.tested(results(joint, gradient, -0.3), load(claim.Settings, PRESET))
    assert found.verdict == verdict
    assert [f.decides for f in found.findings] == [True] * 3 + [False] * 7
    texts = [f.statistic for f in found.findings[:3]]
    assert texts == [
        "frozen, 2d: joint - single + 0.01",
        "frozen, 3d: joint - single + 0.01",
        "frozen: with the gradient - without",
    ]
    means = [f.mean for f in found.findings[:3]]
    assert means == pytest.approx([joint + 0.01, joint + 0.01, gradient])
    assert all(f.units == 3 for f in found.findings)


def test_updates_of_either_kind_are_equal():
    settings = load(claim.Settings, PRESET)
    flat, solid, joint = (settings.pretraining(name, True, 0) for name in ("2d", "3d", "both"))
    assert (flat.dims, solid.dims, joint.dims) == (2, 3, "both")
    assert flat.steps == solid.steps == joint.steps // 2
    assert len({c.batch_size for c in (flat, solid, joint)}) == 1
    assert joint.flat.patch_size == flat.patch_size
    assert joint.options["flat_patch"] == flat.encoder_options["patch_size"] == 4
    assert joint.encoder_options == solid.encoder_options
    assert settings.pretraining("2d", False, 0).options["gradient_weight"] == 0


@pytest.mark.slow
def test_it_runs_on_one_store_and_goes_on(tmp_path, capsys):
    generator = np.random.default_rng(0)
    for name, dims in (("flat", 2), ("solid", 3)):
        (tmp_path / name).mkdir()
        arrays = {}
        for part, count in (("train", 40), ("val", 8)):
            labels = np.arange(count)[:, None] % 2
            images = generator.normal(120, 20, (count, *(12,) * dims))
            images[labels[:, 0] == 1, ::2] += 60
            arrays[f"{part}_images"] = images.clip(0, 255).astype(np.uint8)
            arrays[f"{part}_labels"] = labels.astype(np.uint8)
        np.savez(tmp_path / name / f"{name}mnist{dims}d.npz", **arrays)
    change = [
        "sides.2d={folder: flat, labels: 0.5, size: 12, patch: 4}",
        "sides.3d={folder: solid, labels: 1.0, size: 12, patch: 6}",
        "updates=1", "seeds=2", "encoder_options={embed_dim: 12, depth: 1, heads: 2}",
        "options={decoder_dim: 12}", "pretrain.batch_size=4", "pretrain.device=cpu",
        "finetune={steps: 1, batch_size: 4, device: cpu}",
    ]  # fmt: skip
    out = tmp_path / "out"
    claim.main(tmp_path, out, change, PRESET, ROOT / "pipelines/public_data.key")
    found = Claim.read(out / "joint_dimensions.json")
    assert found.verdict in capsys.readouterr().out
    table = pd.read_csv(out / "runs.csv")
    # of each seed: four single runs read in two ways, two joint ones in four, random weights
    assert len(table) == 2 * (4 * 2 + 2 * 4 + 4)
    before = [p.stat().st_mtime_ns for p in sorted(out.glob("measured/*"))]
    claim.main(tmp_path, out, change, PRESET, ROOT / "pipelines/public_data.key")
    assert [p.stat().st_mtime_ns for p in sorted(out.glob("measured/*"))] == before
    store = Store.open(out / "store")
    sides = [set(claim.subjects_of(store, kind)) for kind in ("2d", "3d")]
    assert len(sides[0] & sides[1]) == 0
    assert sorted(set(claim.subjects_of(store, "2d").values())) == ["test", "train", "validation"]
