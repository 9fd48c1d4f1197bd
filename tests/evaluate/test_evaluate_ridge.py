import numpy as np
import pytest

from medssl.evaluate.ridge import ridge_probe


def made(rows=40, width=5, seed=0):
    generator = np.random.default_rng(seed)
    x = generator.normal(3, 2, (rows, width)).astype(np.float32)
    y = 100 + x @ np.arange(width) + generator.normal(0, 0.1, rows)
    return x, y.astype(np.float64), [str(i) for i in range(rows)]


def test_it_is_the_solution_of_the_normal_equations():
    x, y, subjects = made()
    found = ridge_probe(x[:30], y[:30], subjects[:30], x[30:], strengths=[7.0])
    z = x.astype(np.float64)
    z = (z - z[:30].mean(0)) / z[:30].std(0)
    weights = np.linalg.solve(
        z[:30].T @ z[:30] + 7.0 * np.eye(5), z[:30].T @ (y[:30] - y[:30].mean())
    )
    np.testing.assert_allclose(found, y[:30].mean() + z[30:] @ weights, rtol=1e-6)


def test_the_penalty_is_chosen_on_validation():
    x, y, subjects = made()
    lenient = ridge_probe(x, y, subjects, x, validation=(x, y))
    # held-out numbers that have nothing to do with the features: the strongest penalty is best
    strict = ridge_probe(x, y, subjects, x, validation=(x, np.full(40, y.mean())))
    assert np.ptp(strict) < 0.05 * np.ptp(lenient)


def test_without_validation_it_is_chosen_by_subject():
    x, y, subjects = made()
    assert np.abs(ridge_probe(x, y, subjects, x) - y).mean() < 0.5
    alone = ridge_probe(x[:3], y[:3], ["one"] * 3, x)
    assert np.isfinite(alone).all()


def test_shapes_that_do_not_fit_are_refused():
    x, y, subjects = made()
    with pytest.raises(ValueError, match="one row per image"):
        ridge_probe(x, y[:-1], subjects, x)
