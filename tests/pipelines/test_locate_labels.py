import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from medssl import config as configuration
from medssl.config import load
from medssl.errors import MedsslError
from medssl.methods import method_class
from medssl.studies.places import ARMS, FOUND

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pipeline():
    spec = importlib.util.spec_from_file_location(
        "locate_labels", ROOT / "pipelines" / "locate_labels.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["locate_labels"] = module
    spec.loader.exec_module(module)
    return module


def test_the_preset_is_valid(pipeline):
    study = load(pipeline.Study, ROOT / "configs" / "locate_labels" / "cpu.yaml")
    assert study.measured == "test"
    assert study.pretrain.method == "anatomical_embedding"
    kind = method_class(study.pretrain.method)
    assert configuration.load(kind.Config, values=study.pretrain.options)


def errors(gain):
    """Three subjects in each other; the baselines' errors are 3, the embedding's less by `gain` of
    the subject looked in."""
    rows = []
    for first in "abc":
        for second in "abc":
            for label in ("left", "right"):
                for arm in ARMS if first != second else ():
                    error = 3.0 - (gain[second] if arm == FOUND else 0)
                    row = {"from": first, "to": second, "label": label, "arm": arm}
                    row |= {"error_mm": error, "return_mm": 2 * error, "similarity": 1 / error}
                    rows.append(row)
    return pd.DataFrame(rows)


def test_the_interval_is_over_the_subjects_that_are_looked_in(pipeline):
    gain = {"a": 0.5, "b": 1.0, "c": 1.5}
    found = pipeline.summary(errors(gain)).set_index(["label", "arm"])
    row = found.loc[("all", "same relative position")]
    half = 4.302653 * np.std([0.5, 1.0, 1.5], ddof=1) / np.sqrt(3)
    assert (row["gain"], row["gain low"]) == pytest.approx((1.0, 1 - half), abs=1e-5)
    assert row["subjects"] == 3
    assert row["pairs"] == 12
    assert row["embedding better"] == "inconclusive"
    assert found.loc[("left", FOUND), "median"] == 2.0
    assert found.loc[("left", FOUND), "low quartile"] == 1.625
    clear = pipeline.summary(errors({"a": 1.0, "b": 1.01, "c": 1.02}))
    assert clear.iloc[-1]["embedding better"] == "supported"
    worse = pipeline.summary(errors({"a": -1.0, "b": -1.01, "c": -1.02}))
    assert worse.iloc[-1]["embedding better"] == "not supported"


def cut_scans(gone=(0.1, 0.2, 0.6), left=(0.4, 0.5, 0.7)):
    """Places in cut scans; the way back of those gone is 7, of those left 1."""
    return pd.DataFrame(
        {
            "gone": [True] * len(gone) + [False] * len(left),
            "similarity": [*gone, *left],
            "return_mm": [7.0] * len(gone) + [1.0] * len(left),
        }
    )


def test_trust_is_by_thirds_of_the_way_back_and_of_cut_scans(pipeline):
    found = pipeline.trust(errors({"a": 0.5, "b": 1.0, "c": 1.5}), cut_scans())
    assert found["place"].tolist()[0] == "there, least third"
    assert found["place"].tolist()[-2:] == ["left in a cut scan", "gone from a cut scan"]
    assert found["pairs"].tolist() == [4, 4, 4, 3, 3]
    assert found["error_mm"].tolist()[:3] == [1.5, 2.0, 2.5]
    assert found["return_mm"].tolist() == [3.0, 4.0, 5.0, 1.0, 7.0]
    assert found["similarity"].tolist()[-2:] == [0.5, 0.2]


def test_what_is_gone_is_told_from_what_is_left(pipeline):
    areas = pipeline.told_apart(cut_scans())
    assert areas["return_mm"] == 1.0
    assert areas["similarity"] == pytest.approx(7 / 9)  # of nine pairs, 0.6 wins two
    assert np.isnan(pipeline.told_apart(cut_scans(left=()))["similarity"])


def test_the_markdown_has_a_row_for_each_label_arm_and_third(pipeline):
    table, cut = errors({"a": 0.5, "b": 1.0, "c": 1.5}), cut_scans()
    found, trusted = pipeline.summary(table), pipeline.trust(table, cut)
    text = pipeline.markdown(found, trusted, pipeline.told_apart(cut))
    assert len(text.splitlines()) == (2 + 3 * 4) + 1 + (2 + 5) + 2
    assert "| all | image centre | 3.00 | 3.00 to 3.00 | 3.00 | +1.00 [" in text
    assert "| gone from a cut scan | 3 | 7.00 | 0.200 |  |" in text


def test_a_subject_without_all_labels_is_left_out_and_two_are_needed(pipeline, monkeypatch):
    def volume(subject, values):
        label = np.array(values, np.uint8).reshape(1, -1, 1)
        return SimpleNamespace(subject_id=subject, label=lambda: label)

    made = {
        "1": volume("a", [0, 1, 2]), "2": volume("a", [0, 1, 2]), "3": volume("b", [0, 1, 1]),
        "4": volume("c", [2, 1, 2]), "5": volume("d", [0, 1, 2]),
    }  # fmt: skip
    split = {"a": "test", "b": "test", "c": "test", "d": "train"}
    monkeypatch.setattr(pipeline, "study_split", lambda store: split)

    class Made(dict):
        manifest = {"volume_id": list(made)}  # noqa: RUF012

    settings = load(pipeline.Study, ROOT / "configs" / "locate_labels" / "cpu.yaml")
    assert pipeline.first_volumes(Made(made), settings) == [made["1"], made["4"]]
    other = settings.model_copy(update={"measured": "validation"})
    with pytest.raises(MedsslError, match="LABELS_TOO_FEW"):
        pipeline.first_volumes(Made(made), other)


@pytest.mark.slow
def test_the_whole_study_on_small_real_settings(pipeline, data_root, tmp_path):
    small = ["pretrain.steps=2", "pretrain.encoder_options.widths=[4,8]", "pretrain.batch_size=2"]
    preset = ROOT / "configs" / "locate_labels" / "cpu.yaml"
    key = ROOT / "pipelines" / "public_data.key"
    for measured in ("validation", "test"):
        pipeline.main(
            data_root, tmp_path / "out", [*small, f"measured={measured}"], preset, key_file=key
        )
        table = pd.read_csv(tmp_path / "out" / f"locate_labels-{measured}.csv")
        assert set(table["arm"]) == set(ARMS)
        assert (tmp_path / "out" / f"locate_labels-{measured}.png").stat().st_size > 1000
