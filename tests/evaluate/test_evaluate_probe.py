from __future__ import annotations

import numpy as np
import pytest

from medssl.evaluate.classification import classification_metrics
from medssl.evaluate.probe import linear_probe, nested_subsets

FRACTIONS = (0.01, 0.1, 1.0)


def problem(n, seed, d=8):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, n)
    features = generator.normal(size=(n, d))
    features[:, 0] += 3 * labels
    # scale and offset must not matter
    return (features * np.logspace(-3, 3, d) + 100).astype(np.float32), labels


def names(n):
    return [f"s{i}" for i in range(n)]


def test_matches_scikit_learn_at_the_chosen_penalty():
    linear_model = pytest.importorskip("sklearn.linear_model")
    (train, labels), (test, _), (held, held_labels) = problem(80, 0), problem(30, 1), problem(40, 2)
    found = linear_probe(train, labels, names(80), test, 2, validation=(held, held_labels))
    mean, spread = train.astype(float).mean(0), train.astype(float).std(0)
    oracle = linear_model.LogisticRegression(
        C=found.c, class_weight="balanced", solver="newton-cholesky"
    ).fit((train - mean) / spread, labels)
    expected = oracle.predict_proba((test - mean) / spread)
    np.testing.assert_allclose(found.scores, expected, atol=2e-3)
    assert found.chosen_by == "validation"


def test_reads_a_linear_signal_and_nothing_from_noise():
    (train, labels), (test, truth) = problem(200, 0), problem(200, 1)
    signal = linear_probe(train, labels, names(200), test, 2)
    assert classification_metrics(signal.scores, truth)["auroc"] > 0.95
    noise = linear_probe(train[:, 1:], labels, names(200), test[:, 1:], 2)
    assert abs(classification_metrics(noise.scores, truth)["auroc"] - 0.5) < 0.12
    assert noise.c < signal.c
    assert signal.chosen_by == "inner cross-validation"


def test_inner_folds_keep_subjects_together():
    # each subject has 10 identical rows and random labels: by subject there is nothing to learn,
    # so a strong penalty wins; split by row, copies would leak and a weak one would
    generator = np.random.default_rng(0)
    features = np.repeat(generator.normal(size=(24, 40)), 10, axis=0)
    labels = np.repeat(np.arange(24) % 2, 10)
    subjects = list(np.repeat(names(24), 10))
    by_subject = linear_probe(features, labels, subjects, features[:2], 2)
    by_row = linear_probe(features, labels, names(240), features[:2], 2)
    assert by_subject.c < 1e-1 < by_row.c


def test_one_subject_per_class_falls_back_to_the_default():
    found = linear_probe(np.eye(2), np.array([0, 1]), ["a", "b"], np.eye(2), 3)
    assert (found.c, found.chosen_by) == (0.1, "default")
    assert found.scores.argmax(1).tolist() == [0, 1]
    assert found.scores[:, 2].tolist() == [0, 0]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_subsets_are_nested_whole_subjects_with_every_class(seed):
    generator = np.random.default_rng(seed)
    subjects = [f"s{i}" for i in generator.integers(0, 120, 300)]
    labels = generator.choice(4, 300, p=[0.6, 0.3, 0.09, 0.01])
    subsets = nested_subsets(subjects, labels, FRACTIONS, seed)
    previous: set[int] = set()
    for fraction in FRACTIONS:
        rows = set(subsets[fraction].tolist())
        assert previous <= rows
        assert set(labels[subsets[fraction]]) == set(labels)
        kept = {subjects[r] for r in rows}
        assert rows == {r for r in range(300) if subjects[r] in kept}
        previous = rows
    assert previous == set(range(300))


def test_subset_sizes_and_strata():
    labels = np.array([0] * 300 + [1] * 100)
    subsets = nested_subsets(names(400), labels, FRACTIONS, 0)
    assert [np.bincount(labels[subsets[f]]).tolist() for f in FRACTIONS] == [
        [3, 1],
        [30, 10],
        [300, 100],
    ]


def test_subsets_depend_on_the_seed_only():
    labels = np.arange(100) % 2
    first, again, other = (nested_subsets(names(100), labels, [0.1], s)[0.1] for s in (0, 0, 1))
    assert first.tolist() == again.tolist() != other.tolist()


def test_a_class_carried_only_by_mixed_subjects_is_kept():
    # class 0 occurs only in subjects that also carry the rarer classes 1 or 2
    subjects = ["a", "a", "b", "b", "c", "c", "d", "d"]
    labels = np.array([0, 1, 0, 1, 0, 2, 0, 2])
    for seed in range(5):
        kept = nested_subsets(subjects, labels, [0.01], seed)[0.01]
        assert set(labels[kept]) == {0, 1, 2}


def test_a_single_class_or_a_bad_fraction_is_refused():
    with pytest.raises(ValueError, match="two classes"):
        linear_probe(np.eye(2), np.array([0, 0]), ["a", "b"], np.eye(2), 2)
    with pytest.raises(ValueError, match="fractions"):
        nested_subsets(["a"], np.array([0]), [0.0], 0)
