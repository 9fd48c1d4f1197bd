"""The claims: what made-up results lead to, and small real runs of those that train."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from medssl.config import load
from medssl.errors import MedsslError
from medssl.store import Store
from medssl.studies.cells import COLUMNS
from medssl.studies.claims import Claim

ROOT = Path(__file__).resolve().parents[2]


def claim(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "pipelines/claims" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


objectives, decoupled, mixing, rank = map(claim, ("objectives", "decoupled", "mixing", "rank"))


def compared(dice, auroc, noise=0.001):
    """Results of `mae` and `hybrid`: what hybrid has more than 0.8 of each, by seed."""
    rows = []
    for seed in range(3):
        for task, metric, readout, more in (
            ("hippocampus", "dice", "fine-tuned", dice),
            ("pneumonia", "auroc", "knn", auroc),
        ):
            base = 0.8 + seed * 0.05
            rows.append(("mae", "unet", task, "1", readout, seed, metric, base))
            noise = -noise  # so that what the two tasks lack of each other varies
            value = base + more + noise * (seed - 1)
            rows.append(("hybrid", "unet", task, "1", readout, seed, metric, value))
            rows.append(("scratch", "unet", task, "1", readout, seed, metric, 0.1))
    return pd.DataFrame(rows, columns=COLUMNS)


@pytest.mark.parametrize(
    ("dice", "auroc", "verdict"),
    [
        (-0.1, 0.1, "supported"),
        (0.1, -0.1, "not supported"),
        (0.1, 0.1, "inconclusive"),
    ],
)
def test_objective_and_task_interact(dice, auroc, verdict):
    found = objectives.tested(compared(dice, auroc), objectives.Settings())
    assert found.verdict == verdict
    names = [f.statistic.split(":")[0] for f in found.findings]
    assert names == ["interaction", "classification", "segmentation"]
    assert [f.decides for f in found.findings] == [True, False, False]


def test_the_advantage_is_in_spreads_and_of_errors_the_other_way_round():
    table = compared(0.1, 0.1, noise=0).query("task == 'pneumonia'").assign(metric="mae")
    found = objectives.advantages(table, objectives.Settings())
    values = table.loc[table["method"] != "scratch", "value"]
    np.testing.assert_allclose(found["advantage"], 0.1 / np.std(values))


def test_objectives_need_both_kinds_of_methods():
    table = compared(0.1, 0.1)
    with pytest.raises(MedsslError, match="NOTHING_USABLE"):
        objectives.tested(table[table["method"] != "hybrid"], objectives.Settings())


def readouts(frozen_small, frozen_large, tuned):
    rows = []
    for seed in range(3):
        for batch, frozen in ((8, frozen_small), (64, frozen_large)):
            for readout, gain in (("knn", frozen), ("linear", frozen), ("fine-tuned", tuned)):
                values = (("simclr", 0.7), ("dcl", 0.7 + gain + 0.001 * seed), ("random", 0.1))
                for method, value in values:
                    where = (method, "unet", f"batch {batch}", "10 %", readout, seed)
                    rows.append((*where, "auroc", value))
    return pd.DataFrame(rows, columns=COLUMNS)


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ((0.1, 0.05, 0.0), "supported"),
        ((0.05, 0.1, 0.0), "not supported"),
        ((0.1, 0.1, 0.2), "not supported"),
    ],
)
def test_where_dcl_helps(gains, verdict):
    settings = load(decoupled.Settings, ROOT / "configs/claims/decoupled.yaml")
    found = decoupled.tested(readouts(*gains), settings)
    means = [f.mean for f in found.findings[:2]]
    assert means == pytest.approx([(gains[0] + gains[1]) / 2 - gains[2], gains[0] - gains[1]])
    assert found.verdict == verdict


def test_dcl_is_compared_with_simclr_at_two_batches():
    settings = load(decoupled.Settings, ROOT / "configs/claims/decoupled.yaml")
    study = settings.study()
    batches = [d.pretraining("simclr", "unet", 0, 1).batch_size for d in study.data.values()]
    assert (study.method, batches) == (["simclr", "dcl"], [8, 64])


def test_the_drop_is_from_the_peak_to_the_end():
    settings = load(mixing.Settings, ROOT / "configs/claims/mixing.yaml")
    rows = []
    for seed in range(3):
        for method, curve in (("barlow", (0.7, 0.9, 0.6)), ("mixed_barlow", (0.7, 0.8, 0.79))):
            line = {"method": method, "seed": seed}
            for step, value in enumerate(curve):
                rows.append({**line, "step": step, "on": "validation", "auroc": value + seed / 99})
            rows.append({**line, "step": 2, "on": "test", "auroc": 0.5})
    found = mixing.tested(pd.DataFrame(rows), settings)
    assert found.verdict == "supported"
    assert found.findings[0].mean == pytest.approx(0.3 - 0.01)
    assert found.findings[1].mean == pytest.approx(-0.1)  # the peak is not higher
    assert found.table[0]["drop"] == pytest.approx(0.3)


def runs_of(method, rank_, quality):
    return pd.DataFrame(
        {"method": method, "options": "", "seed": 0, "rankme": rank_, "auroc": quality}
    )


def test_rank_within_and_over_methods():
    settings = load(rank.Settings, ROOT / "configs/claims/rank.yaml")
    up = np.arange(8.0)
    # within each method rank orders; over both it does the opposite
    table = pd.concat([runs_of("barlow", up, 10 + up), runs_of("simclr", 20 + up, up)])
    found = rank.tested(table, settings)
    assert found.verdict == "supported"
    assert found.findings[0].mean == pytest.approx(1)
    assert found.findings[2].mean < 0
    generator = np.random.default_rng(0)
    noise = pd.concat([runs_of(m, up, generator.permutation(8)) for m in ("barlow", "simclr")])
    assert rank.tested(noise, settings).findings[0].verdict == "inconclusive"
    lost = pd.concat([table, runs_of("simclr", [np.nan], [np.nan])])
    assert rank.tested(lost, settings).notes == [
        "1 of 17 runs collapsed or diverged and are left out."
    ]


def test_spearman_is_scipys_of_every_draw():
    pairs = np.random.default_rng(0).integers(0, 5, (6, 9, 2)).astype(float)
    wanted = [spearmanr(draw[:, 0], draw[:, 1]).statistic for draw in pairs]
    np.testing.assert_allclose(rank.spearman(pairs), wanted)
    assert np.isnan(rank.spearman(np.ones((1, 4, 2))))


@pytest.fixture(scope="module")
def stripes(tmp_path_factory):
    """A folder with a small archive of pictures, as MedMNIST's."""
    folder = tmp_path_factory.mktemp("claims")
    (folder / "stripes").mkdir()
    generator = np.random.default_rng(0)
    arrays = {}
    for name, count in (("train", 40), ("val", 8)):
        labels = np.arange(count)[:, None] % 2
        images = generator.normal(120, 20, (count, 28, 28))
        images[labels[:, 0] == 1, ::2] += 60
        arrays[f"{name}_images"] = images.clip(0, 255).astype(np.uint8)
        arrays[f"{name}_labels"] = labels.astype(np.uint8)
    np.savez(folder / "stripes" / "stripesmnist.npz", **arrays)
    return folder


SMALL = [
    "folder=stripes",
    "pretrain.encoder_options.widths=[4]",
    "pretrain.steps=2",
    "pretrain.batch_size=4",
]


@pytest.mark.slow
def test_mixing_runs_and_goes_on(stripes, capsys):
    out = stripes / "mixing"
    change = ["methods=[mae,simclr]", "images=12", "validation=10", "every=1", "seeds=2"]
    change += [*SMALL, "pretrain.options={}"]
    mixing.main(stripes, out, change, ROOT / "configs/claims/mixing.yaml")
    curves = pd.read_csv(out / "curves.csv")
    assert len(curves) == 2 * 2 * (2 + 1)  # seeds, methods, two validations and a test
    found = Claim.read(out / "mixing.json")
    assert found.verdict in capsys.readouterr().out
    before = [p.stat().st_mtime_ns for p in sorted(out.glob("curves/*"))]
    mixing.main(stripes, out, change, ROOT / "configs/claims/mixing.yaml")
    assert [p.stat().st_mtime_ns for p in sorted(out.glob("curves/*"))] == before
    settings = load(mixing.Settings, ROOT / "configs/claims/mixing.yaml", change)
    _, sides = mixing.chosen_rows(Store.open(out / "store"), settings, 0)
    on = {name: set(rows.subjects("test")) for name, rows in sides.items()}
    trained_on = sides["test"].subjects("train")
    assert (len(trained_on), len(on["validation"]), len(on["test"])) == (12, 10, 8)
    assert not on["validation"] & on["test"]


@pytest.mark.slow
def test_rank_runs(stripes, monkeypatch):
    quality = iter((0.5, 0.7, 0.6, 0.8))
    monkeypatch.setattr(rank, "probe_metrics", lambda *_: {"auroc": next(quality)})
    out = stripes / "rank"
    change = [*SMALL, "grid={simclr: {temperature: [0.1, 1.0], hidden: [4, 8]}}", "labels=1.0"]
    rank.main(stripes, out, change, ROOT / "configs/claims/rank.yaml")
    table = pd.read_csv(out / "runs.csv")
    assert len(table) == 4
    assert table["rankme"].between(1, 4).all()
    assert Claim.read(out / "rank.json").findings[0].of == "runs"


@pytest.mark.slow
def test_decoupled_runs_on_one_store(stripes, monkeypatch):
    monkeypatch.setattr(decoupled, "DECOUPLED", "byol")
    out = stripes / "decoupled"
    change = ["folder=stripes", "encoder_options.widths=[4]", "seeds=2", "passes=16", "labels=1.0"]
    change += ["batches=[4,8]", "finetune.steps=1", "finetune.batch_size=4"]
    decoupled.main(stripes, out, change, ROOT / "configs/claims/decoupled.yaml")
    found = Claim.read(out / "decoupled.json")
    assert [f.units for f in found.findings] == [2] * 6  # two that decide, a gain for each column
    assert len(found.table) == 2 * (2 * 3 + 3)  # batches; readouts of methods and of the controls
    assert [p.name for p in (out / "stores").iterdir() if p.suffix == ""] == ["stripes"]
