import numpy as np
import pandas as pd
import pytest

from medssl.studies.cells import COLUMNS
from medssl.studies.summary import figure, markdown, summary


def results(metric, method, control, readout, values):
    """One task, one label amount: values[method][seed]."""
    rows = []
    for name, numbers in zip((method, control), values, strict=True):
        for seed, value in enumerate(numbers):
            rows.append((name, "unet", "task", "10 %", readout, seed, metric, value))
    return pd.DataFrame(rows, columns=COLUMNS)


def test_the_gain_is_paired_by_seed():
    gains = np.array([0.01, 0.02, 0.06])
    base = np.array([0.5, 0.9, 0.1])
    (row,) = summary(results("auroc", "mae", "random", "knn", (base + gains, base))).to_dict(
        "records"
    )
    half = 4.302653 * gains.std(ddof=1) / np.sqrt(3)
    assert row["gain"] == pytest.approx(0.03)
    assert row["low"] == pytest.approx(0.03 - half, abs=1e-6)
    assert row["better than control"] == "inconclusive"
    assert (row["control"], row["pairs"]) == ("random", 3)


def test_a_smaller_error_is_a_gain():
    table = results("mae", "simclr", "random", "ridge", ([90, 91, 92], [100, 101, 102]))
    (row,) = summary(table).to_dict("records")
    assert (row["gain"], row["better than control"]) == (10, "supported")


def test_fine_tuned_is_compared_with_scratch_and_seeds_of_one_arm_are_left_out():
    table = results("dice", "mae", "scratch", "fine-tuned", ([0.6, 0.7, 0.9], [0.5, 0.5]))
    (row,) = summary(table).to_dict("records")
    assert (row["control"], row["pairs"]) == ("scratch", 2)
    assert row["gain"] == pytest.approx(0.15)
    assert summary(table[table["method"] == "mae"]).empty


def test_what_is_no_quality_is_not_compared():
    table = results("rankme", "mae", "random", "features", ([5, 6], [7, 8]))
    assert summary(table).empty


def test_the_table_tells_what_failed_and_what_was_left_out():
    compared = summary(results("auroc", "mae", "random", "knn", ([0.6, 0.8], [0.5, 0.9])))
    text = markdown(compared, {"pretraining_x_y": "TRAINING_COLLAPSED"}, {"x": {"gmml": "why"}})
    assert "| inconclusive |" in text
    assert "- pretraining_x_y ended with TRAINING_COLLAPSED." in text
    assert "- gmml is left out on x: why" in text


def test_each_method_has_a_line_with_its_gains():
    parts = [
        results("auroc", name, "random", readout, (values, [0.5, 0.6, 0.7]))
        for name, readout, values in (
            ("mae", "knn", [0.61, 0.72, 0.81]),
            ("mae", "linear", [0.6, 0.5, 0.9]),
            ("simclr", "linear", [0.4, 0.51, 0.6]),
        )
    ]
    lines = markdown(summary(pd.concat(parts).drop_duplicates())).splitlines()
    assert lines[:4] == [
        "| task: gain, auroc | knn, 10 % | linear, 10 % |",
        "| --- | --- | --- |",
        "| mae (unet) | **+0.113** | +0.067 |",
        "| simclr (unet) |  | **-0.097** |",
    ]


def test_the_figure_has_a_panel_for_each_readout():
    table = pd.concat(
        [
            results("auroc", "mae", "random", "knn", ([0.6, 0.8], [0.5, 0.9])),
            results("auroc", "mae", "random", "linear", ([0.6, 0.8], [0.5, 0.9])),
        ]
    )
    titles = [axis.get_title() for axis in figure(summary(table)).axes]
    assert [t for t in titles if t] == ["task, knn", "task, linear"]
