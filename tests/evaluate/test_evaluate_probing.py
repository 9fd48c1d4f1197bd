from __future__ import annotations

import numpy as np
import pytest

from medssl.evaluate.probing import Rows, difference_table, probe_table

FRACTIONS = (0.1, 1.0)


def problem(n=120):
    generator = np.random.default_rng(0)
    labels = (np.arange(n) % 2).astype(np.int64)
    good = generator.normal(size=(n, 6)).astype(np.float32)
    good[:, 0] += 4 * labels
    bad = [generator.normal(size=(n, 6)).astype(np.float32) for _ in range(3)]
    split = np.array(["train"] * (n // 2) + ["validation"] * (n // 4) + ["test"] * (n // 4))
    return Rows(labels, [f"p{i}" for i in range(n)], split, ["0", "1"]), good, bad


def test_every_arm_probe_fraction_and_seed_has_a_line():
    rows, good, bad = problem()
    table = probe_table({"pretrained": [good] * 3, "random": bad}, rows, FRACTIONS, 3)
    assert len(table) == 2 * 2 * 2 * 3
    assert table.groupby("fraction")["labelled_subjects"].unique().map(list).tolist() == [[6], [60]]
    whole = table[(table["arm"] == "pretrained") & (table["fraction"] == 1.0)]
    assert whole["auroc"].min() > 0.9
    assert whole.groupby("probe")["auroc"].nunique().tolist() == [1, 1]


def test_differences_are_paired_and_judged():
    rows, good, bad = problem()
    table = probe_table({"pretrained": [good] * 3, "random": bad}, rows, FRACTIONS, 3)
    found = difference_table(table)
    assert len(found) == 2 * 2 * 3
    line = found[(found["probe"] == "knn") & (found["fraction"] == 1.0)].iloc[0]
    part = table[(table["probe"] == "knn") & (table["fraction"] == 1.0)]
    means = part.groupby("arm")["auroc"].mean()
    assert line["metric"] == "auroc"
    assert line["mean"] == pytest.approx(means["pretrained"] - means["random"])
    assert line["verdict"] == "supported"
    same = difference_table(table.replace({"arm": {"random": "x", "pretrained": "random"}}), "x")
    assert same.iloc[0]["mean"] == pytest.approx(-found.iloc[0]["mean"])


def test_test_rows_change_nothing_but_the_metrics():
    """Labels of test rows flipped: the same probe, the mirrored AUROC."""
    rows, good, bad = problem()
    flipped = Rows(
        np.where(rows.split == "test", 1 - rows.labels, rows.labels),
        rows.subject_ids,
        rows.split,
        rows.classes,
    )
    tables = [probe_table({"a": [good], "b": bad[:1]}, r, FRACTIONS, 1) for r in (rows, flipped)]
    assert tables[0]["c"].equals(tables[1]["c"])
    np.testing.assert_allclose(tables[0]["auroc"], 1 - tables[1]["auroc"], atol=1e-6)
