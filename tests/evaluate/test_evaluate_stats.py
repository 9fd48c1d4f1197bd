from __future__ import annotations

import math

import numpy as np
import pytest

from medssl.evaluate.stats import paired_interval, verdict


def test_t_interval_matches_scipy():
    stats = pytest.importorskip("scipy.stats")
    generator = np.random.default_rng(0)
    a, b = generator.normal(0.3, 1, 12), generator.normal(0, 1, 12)
    found = paired_interval(a, b)
    oracle = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((oracle.low, oracle.high))
    assert found.mean == pytest.approx(float((a - b).mean()))
    assert (found.pairs, found.units) == (12, 12)


def test_known_answer_of_three_pairs():
    # differences 1, 2, 3: mean 2, sd 1, t(0.975, 2) = 4.302653
    found = paired_interval([1, 2, 3], [0, 0, 0])
    assert found.high - found.mean == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert 1.0 <= found.bootstrap_low < found.bootstrap_high <= 3.0


def test_bootstrap_matches_scipy():
    stats = pytest.importorskip("scipy.stats")
    d = np.random.default_rng(1).normal(0.5, 1, 40)
    found = paired_interval(d, np.zeros(40), repeats=20000)
    oracle = stats.bootstrap((d,), np.mean, method="percentile", n_resamples=20000, rng=2)
    low, high = oracle.confidence_interval
    assert (found.bootstrap_low, found.bootstrap_high) == pytest.approx((low, high), abs=0.02)


def test_pairs_of_one_unit_do_not_count_as_independent():
    # 3 seeds x 50 subjects, the seeds disagree: 150 pairs are worth 3
    d = np.repeat([-1.0, 0.0, 1.0], 50)
    flat = paired_interval(d, np.zeros(150))
    grouped = paired_interval(d, np.zeros(150), groups=list(np.repeat([7, 8, 9], 50)))
    assert (grouped.pairs, grouped.units) == (150, 3)
    assert grouped.high > 2.4 > 0.2 > flat.high
    assert grouped.bootstrap_high == pytest.approx(1.0, abs=0.05)


def test_groups_of_one_are_no_groups():
    a, b = [0.3, 0.1, 0.6, 0.2], [0.1, 0.2, 0.2, 0.1]
    assert paired_interval(a, b) == paired_interval(a, b, groups=["p", "q", "r", "s"])


def test_unit_means_weigh_equally():
    found = paired_interval([1, 1, 1, 1, 3], [0] * 5, groups=["a", "a", "a", "a", "b"])
    assert found.mean == 2.0


def test_coverage_of_the_hierarchical_bootstrap():
    # within-unit spread is resampled too: one unit value known, pairs vary
    generator = np.random.default_rng(0)
    d = generator.normal(0, 1, (2, 100))
    d -= d.mean(axis=1, keepdims=True)
    found = paired_interval(d.ravel(), np.zeros(200), groups=[0] * 100 + [1] * 100)
    # unit means are equal, so all spread is the pairs': sd of a mean of 2 x 100
    assert found.bootstrap_high == pytest.approx(1.96 / math.sqrt(200), rel=0.25)


def test_one_unit_is_never_evidence():
    found = paired_interval([0.9], [0.1])
    assert (found.low, found.high) == (-math.inf, math.inf)
    assert verdict(found) == "inconclusive"


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((0.01, 0.2), "supported"),
        ((-0.01, 0.2), "inconclusive"),
        ((0.0, 0.2), "inconclusive"),
        ((-0.2, -0.01), "not supported"),
        ((-0.2, 0.0), "not supported"),
    ],
)
def test_verdict(interval, expected):
    assert verdict(interval) == expected


@pytest.mark.parametrize(
    ("a", "b", "groups"),
    [([1, 2], [1], None), ([], [], None), ([1, math.nan], [0, 0], None), ([1, 2], [0, 0], ["x"])],
)
def test_pairs_that_do_not_fit_are_refused(a, b, groups):
    with pytest.raises(ValueError, match=r"equally|finite|groups"):
        paired_interval(a, b, groups=groups)
