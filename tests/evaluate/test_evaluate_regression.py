from __future__ import annotations

import math

import numpy as np
import pytest

from medssl.evaluate.regression import regression_metrics


def test_known_values():
    found = regression_metrics(np.array([1.0, 2.0, 6.0]), np.array([1.0, 3.0, 5.0]))
    assert found["mae"] == pytest.approx(2 / 3)
    assert found["r2"] == pytest.approx(1 - 2 / 8)
    assert found["r"] == pytest.approx(10 / math.sqrt(8 * 14))


def test_the_mean_as_prediction_explains_nothing():
    truth = np.array([1.0, 3.0, 5.0])
    found = regression_metrics(np.full(3, 3.0), truth)
    assert found["r2"] == 0.0
    assert math.isnan(found["r"])
    assert math.isnan(regression_metrics(np.array([1.0]), np.array([2.0]))["r2"])


def test_values_match_scikit_learn():
    sk = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(0)
    truth = generator.normal(3000, 400, 40)
    predicted = truth + generator.normal(50, 300, 40)
    found = regression_metrics(predicted, truth)
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(truth, predicted))
    assert found["r2"] == pytest.approx(sk.r2_score(truth, predicted))
    assert found["r"] == pytest.approx(np.corrcoef(truth, predicted)[0, 1])


@pytest.mark.parametrize(
    ("predicted", "truth"), [([1.0], [1.0, 2.0]), ([], []), ([math.nan], [1.0]), ([[1.0]], [[1.0]])]
)
def test_what_does_not_fit_is_refused(predicted, truth):
    with pytest.raises(ValueError, match="fit|finite"):
        regression_metrics(np.array(predicted), np.array(truth))
