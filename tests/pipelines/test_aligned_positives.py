"""The claim of aligned positives: what made-up results lead to, and a small real run."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from medssl.bundle import Bundle
from medssl.config import load
from medssl.errors import MedsslError
from medssl.studies.claims import Claim

ROOT = Path(__file__).resolve().parents[2]
PRESET = ROOT / "configs/claims/aligned_positives.yaml"
ARMS = ("scratch", "mim", "random", "displaced", "position", "casa")


@pytest.fixture(scope="module")
def claim():
    path = ROOT / "pipelines/claims/aligned_positives.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def results(gain: dict[str, float], noise: float = 0.001) -> pd.DataFrame:
    """Dice of every arm: 0.5, more with labels and seeds, and what it gains over that."""
    rows = []
    for seed in range(3):
        for number, arm in enumerate(ARMS):
            for labels in (1, 2, 9):
                value = 0.5 + labels / 100 + seed / 10 + gain.get(arm, 0.0)
                value += noise * ((seed + number) % 3)
                rows.append({"arm": arm, "labels": labels, "seed": seed, "dice": value})
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("gain", "verdict"),
    [
        ({"position": 0.1, "casa": 0.1}, "supported"),
        ({"random": 0.1}, "not supported"),
        ({"position": 0.1, "displaced": 0.1}, "inconclusive"),
        ({}, "inconclusive"),
    ],
)
def test_aligned_is_compared_with_random_and_displaced(claim, gain, verdict):
    settings = load(claim.Settings, PRESET)
    found = claim.tested(results(gain), settings)
    decides = [f for f in found.findings if f.decides]
    assert [f.statistic.split("labelled: ")[1] for f in decides] == [
        "aligned by position - random",
        "aligned by position - displaced",
    ] * 2
    assert found.verdict == verdict
    assert decides[0].units == 3
    wanted = gain.get("position", 0.0) - gain.get("random", 0.0)
    assert decides[0].mean == pytest.approx(wanted, abs=0.002)


def test_other_differences_are_told_beside(claim):
    found = claim.tested(results({"casa": 0.1}), load(claim.Settings, PRESET))
    by_name = {f.statistic: f for f in found.findings}
    casa = by_name["Dice with mean of 1 and 2 labelled: casa - position"]
    assert casa.mean == pytest.approx(0.1, abs=0.002)
    assert not casa.decides
    assert "Dice with 9 labelled: position - scratch" in by_name
    assert len(found.table) == 6
    assert found.table[0]["arm"] == "scratch"


def test_runs_that_learned_too_little_are_counted(claim):
    table = results(dict.fromkeys(ARMS, 0.2))
    table.loc[[0, 1, 9], "dice"] = 0.01
    table.loc[[2], "dice"] = 0.56
    settings = load(claim.Settings, PRESET)
    assert "3 of 54 fine-tunings ended with a Dice below 0.55" in claim.notes(table, settings)[-1]
    assert "(scratch 2, displaced 1)" in claim.notes(table, settings)[-1]


def test_arms_differ_in_their_options_alone(claim, tmp_path):
    settings = load(claim.Settings, PRESET)
    made = {arm: settings.pretraining(arm, 2, tmp_path) for arm in settings.arms}
    rest = {config.model_copy(update={"options": {}}).model_dump_json() for config in made.values()}
    assert len(rest) == 1
    assert {config.seed for config in made.values()} == {2}
    assert made["embedding"].options["embedding"] == str(tmp_path)
    assert all("embedding" not in made[arm].options for arm in made if arm != "embedding")
    assert made["casa"].options == {**made["position"].options, "patch_weight": 1.0}
    assert settings.finetuning(1).report == ("test",)


def test_the_arms_of_the_claim_must_be_there(claim):
    with pytest.raises(MedsslError, match="needs the arms displaced"):
        load(claim.Settings, PRESET, ["arms={random: {}, position: {}}"])


@pytest.fixture(scope="module")
def balls(tmp_path_factory):
    """A folder with volumes of a bright ball, labelled, of ten subjects."""
    folder = tmp_path_factory.mktemp("data") / "hippocampus"
    grid = np.stack(np.meshgrid(*[np.arange(16)] * 3, indexing="ij"))
    lines = ["file,subject"]
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for number in range(10):
        rng = np.random.default_rng(number)
        inside = ((grid - rng.uniform(6, 10, (3, 1, 1, 1))) ** 2).sum(0) < 20
        image = (rng.normal(100, 8, inside.shape) + 60 * inside).astype(np.float32)
        label = inside.astype(np.uint8) + (inside & (grid[1] > 8))
        for part, array in (("images", image), ("labels", label.astype(np.uint8))):
            nib.save(nib.Nifti1Image(array, np.eye(4)), folder / part / f"v{number}.nii.gz")
        lines.append(f"v{number}.nii.gz,S{number}")
    (folder / "subjects.csv").write_text("\n".join(lines) + "\n")
    return folder.parent


SMALL = [
    "seeds=2", "labels=[1,2]", "decisive=1", "pretrain.steps=2", "pretrain.batch_size=4",
    "pretrain.encoder_options.widths=[4,8]", "pretrain.patch_size=[16,16,16]",
    "pretrain.options={view_size: [8,8,8], patch_weight: 0.0, prototypes: 8, hidden: 8, "
    "mask_cell: 4}",
    "places.patch_size=[16,16,16]", "places.options={dim: 4, width: 4, negatives: 5, pool: 20}",
    "finetune.steps=2", "finetune.patch_size=[8,8,8]", "finetune.window=[16,16,16]",
]  # fmt: skip


@pytest.mark.slow
def test_it_runs_and_goes_on(claim, balls, capsys):
    out = balls / "out"
    claim.main(balls, out, SMALL, PRESET)
    table = pd.read_csv(out / "results.csv")
    assert len(table) == 2 * 7 * 2  # seeds, arms and scratch, labels
    found = Claim.read(out / "aligned_positives.json")
    assert found.verdict in capsys.readouterr().out
    assert [f.units for f in found.findings][:2] == [2, 2]
    own = Bundle.load(out / "pretrained" / "embedding-0" / "bundle").spec.config["options"]
    places = Bundle.load(out / "pretrained" / "places-0" / "bundle").spec
    assert own["embedding"] == f"sha256:{places.weights_sha256}"
    before = [p.stat().st_mtime_ns for p in sorted(out.glob("cells/*"))]
    claim.main(balls, out, SMALL, PRESET)
    assert [p.stat().st_mtime_ns for p in sorted(out.glob("cells/*"))] == before
