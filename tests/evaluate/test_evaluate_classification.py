from __future__ import annotations

import math

import numpy as np
import pytest

from medssl.evaluate.classification import (
    _weighted,
    bootstrap_intervals,
    classification_metrics,
)


def loop_auroc(score, positive):
    wins, pairs = 0.0, 0
    for s in score[positive]:
        for t in score[~positive]:
            wins += 1.0 if s > t else 0.5 if s == t else 0.0
            pairs += 1
    return wins / pairs


def loop_average_precision(score, positive):
    order = np.argsort(-score)
    hits, total = 0, 0.0
    for rank, index in enumerate(order, start=1):
        if positive[index]:
            hits += 1
            total += hits / rank
    return total / hits


def test_three_classes_match_loops_and_scikit_learn():
    sk = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 3, 60)
    scores = generator.dirichlet(np.ones(3), 60)
    found = classification_metrics(scores, truth)
    assert found["auroc"] == pytest.approx(
        np.mean([loop_auroc(scores[:, c], truth == c) for c in range(3)])
    )
    assert found["auroc"] == pytest.approx(
        sk.roc_auc_score(truth, scores, multi_class="ovr", average="macro")
    )
    assert found["average_precision"] == pytest.approx(
        np.mean([loop_average_precision(scores[:, c], truth == c) for c in range(3)])
    )
    assert found["balanced_accuracy"] == pytest.approx(
        sk.balanced_accuracy_score(truth, scores.argmax(1))
    )


@pytest.mark.parametrize("decimals", [1, 8])
def test_ties_and_weights_match_scikit_learn(decimals):
    sk = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 2, 80)
    score = np.round(generator.normal(size=80) + truth, decimals)
    found = classification_metrics(np.stack([-score, score], 1), truth)
    assert found["auroc"] == pytest.approx(sk.roc_auc_score(truth, score))
    assert found["average_precision"] == pytest.approx(sk.average_precision_score(truth, score))
    twice = np.concatenate([np.arange(80), np.arange(20)])
    weights = np.ones((2, 80))
    weights[1, :20] = 2
    drawn = _weighted(np.stack([-score, score], 1), truth, weights)
    repeated = classification_metrics(np.stack([-score, score], 1)[twice], truth[twice])
    for name, values in drawn.items():
        assert values.tolist() == pytest.approx([found[name], repeated[name]])


def test_two_classes_are_scored_for_class_one():
    score = np.array([0.1, 0.4, 0.35, 0.8])
    truth = np.array([0, 0, 1, 1])
    found = classification_metrics(np.stack([1 - score, score], 1), truth)
    # the known example of the scikit-learn manual
    assert found["auroc"] == 0.75
    assert found["average_precision"] == pytest.approx(0.8333333)
    assert found["balanced_accuracy"] == 0.75


def test_absent_classes_do_not_count():
    truth = np.array([0, 0, 2, 2])
    scores = np.eye(3)[truth]
    assert classification_metrics(scores, truth) == {
        "auroc": 1.0,
        "average_precision": 1.0,
        "balanced_accuracy": 1.0,
    }


def test_a_single_class_has_no_auroc():
    found = classification_metrics(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 0]))
    assert math.isnan(found["auroc"])
    assert found["balanced_accuracy"] == 0.5


def test_intervals_resample_subjects_not_images():
    generator = np.random.default_rng(0)
    truth = np.repeat(generator.integers(0, 2, 30), 10)
    score = np.repeat(generator.normal(size=30), 10) + truth
    scores = np.stack([-score, score], 1)
    per_image = bootstrap_intervals(scores, truth, [str(i) for i in range(300)], repeats=200)
    per_subject = bootstrap_intervals(
        scores, truth, [str(i // 10) for i in range(300)], repeats=200
    )
    width = {
        n: i["auroc"].high - i["auroc"].low
        for n, i in (("image", per_image), ("subject", per_subject))
    }
    # ten copies of one subject carry no more than one: sqrt(10) times wider
    assert 2 < width["subject"] / width["image"] < 4.5
    value = classification_metrics(scores, truth)["auroc"]
    assert per_subject["auroc"].low <= value <= per_subject["auroc"].high


def test_resamples_of_one_class_are_counted():
    scores, truth = np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1])
    found = bootstrap_intervals(scores, truth, ["a", "b"], repeats=100)["auroc"]
    assert found.repeats + found.skipped == 100
    assert 30 < found.skipped < 70


@pytest.mark.parametrize(
    ("scores", "truth"),
    [
        (np.ones((3, 2)), [0, 1]),
        (np.ones((2, 2)), [0, 2]),
        (np.ones((2, 1)), [0, 0]),
        (np.full((2, 2), np.nan), [0, 1]),
    ],
)
def test_scores_that_do_not_fit_are_refused(scores, truth):
    with pytest.raises(ValueError, match=r"fit|labels"):
        classification_metrics(scores, np.array(truth))
