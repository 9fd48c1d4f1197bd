import importlib.util
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medssl.config import load

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pipeline():
    spec = importlib.util.spec_from_file_location(
        "label_efficiency", ROOT / "pipelines" / "label_efficiency.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["label_efficiency"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_presets_are_valid(pipeline, name):
    study = load(pipeline.Study, ROOT / "configs" / "label_efficiency" / f"{name}.yaml")
    assert study.labels[-1] == 0


def cases(gain, seeds=3):
    rows = []
    for seed in range(seeds):
        for subject in ("a", "b"):
            for volume in range(2):  # two volumes of one subject count once
                for arm, dice in (("scratch", 0.5), ("pretrained", 0.5 + gain[seed])):
                    row = {"labels": 1, "seed": seed, "arm": arm, "label": "anterior"}
                    row |= {"volume_id": f"{subject}{volume}", "subject_id": subject}
                    rows.append(row | {"dice": dice, "nsd": dice, "hd95_mm": 1 - dice})
    return pd.DataFrame(rows)


def test_summary_gives_the_t_interval_over_seeds(pipeline):
    gain = [0.1, 0.2, 0.3]
    found = pipeline.summary(cases(gain)).set_index(["label", "metric"])
    row = found.loc[("anterior", "dice")]
    half = 4.302653 * np.std(gain, ddof=1) / np.sqrt(3)
    assert row["difference"] == pytest.approx(0.2)
    assert row["low"] == pytest.approx(0.2 - half, abs=1e-5)
    assert row["high"] == pytest.approx(0.2 + half, abs=1e-5)
    assert row["pretrained better"] == "inconclusive"
    assert row["seeds"] == 3


def test_all_labels_come_last(pipeline):
    both = pd.concat([cases([0.1, 0.2, 0.3]).assign(labels=n) for n in (0, 9, 1)])
    assert list(dict.fromkeys(pipeline.summary(both)["labels"])) == [1, 9, "all"]


def test_a_clear_gain_is_supported_and_a_smaller_distance_is_better(pipeline):
    found = pipeline.summary(cases([0.20, 0.21, 0.22])).set_index(["label", "metric"])
    for metric in ("dice", "nsd", "hd95_mm"):
        assert found.loc[("mean", metric), "pretrained better"] == "supported"
    assert found.loc[("mean", "hd95_mm"), "difference"] == pytest.approx(-0.21)
    worse = pipeline.summary(cases([-0.20, -0.21, -0.22])).set_index(["label", "metric"])
    assert worse.loc[("mean", "hd95_mm"), "pretrained better"] == "not supported"


def test_the_markdown_has_one_row_per_measure(pipeline):
    text = pipeline.markdown(pipeline.summary(cases([0.1, 0.2, 0.3])))
    assert len(text.splitlines()) == 2 + 2 * 3


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_run_measures_the_chosen_subjects_only(pipeline, tmp_path, monkeypatch, split):
    asked = []

    def finetune(kind, store, folder, settings, **_):
        asked.append(settings.report)
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text("{}")
        pd.DataFrame([{"dice": 0.5, "split": split}]).to_csv(folder / "cases.csv", index=False)

    monkeypatch.setattr(pipeline, "finetune", finetune)
    rows = pipeline.one_run(pipeline.Study(measured=split), tmp_path, None, tmp_path, 1, 0)
    assert asked == [(split,)]
    assert rows == [{"labels": 1, "seed": 0, "arm": "scratch", "dice": 0.5}]


@pytest.mark.slow
def test_the_whole_study_on_small_real_settings(pipeline, data_root, tmp_path):
    small = ["seeds=2", "seeds_all=1", "steps_all=2", "labels=[1,0]"]
    small += ["pretrain.steps=2", "finetune.steps=2"]
    pipeline.main(
        data_root / "hippocampus",
        tmp_path / "out",
        small,
        ROOT / "configs" / "label_efficiency" / "cpu.yaml",
    )
    table = pd.read_csv(tmp_path / "out" / "summary.csv")
    assert set(table["labels"]) == {"1", "all"}
    assert (tmp_path / "out" / "label_efficiency.png").stat().st_size > 1000
