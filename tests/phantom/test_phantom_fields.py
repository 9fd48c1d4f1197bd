from __future__ import annotations

import numpy as np
import pytest

from medssl.phantom.fields import Canvas, Grid, blend, ellipsoid, inside, tube


@pytest.fixture
def grid() -> Grid:
    return Grid((41, 31, 21), (2.0, 2.0, 3.0))


def test_coordinates_are_centred(grid: Grid) -> None:
    assert grid.x[0, 0, 0] == -40
    assert grid.x[-1, 0, 0] == 40
    assert grid.z[0, 0, 10] == 0


def test_distance_to_a_sphere_is_exact(grid: Grid) -> None:
    exact = np.sqrt(grid.x**2 + grid.y**2 + grid.z**2) - 15
    got = ellipsoid(grid, (0, 0, 0), (15, 15, 15))
    away = exact > -14.9
    np.testing.assert_allclose(got[away], np.broadcast_to(exact, got.shape)[away], atol=1e-3)


def test_tube_and_set_operations(grid: Grid) -> None:
    capsule = tube(grid, (-10, 0, 0), (10, 0, 0), 4)
    assert capsule[20, 15, 10] == pytest.approx(-4)
    assert capsule[30, 15, 10] == pytest.approx(6, abs=1e-3)
    ball = ellipsoid(grid, (0, 0, 0), (6, 6, 6))
    assert (inside(capsule, ball) >= capsule).all()
    assert (blend(capsule, ball, 4.0) <= np.minimum(capsule, ball) + 1e-4).all()


def test_noise_is_standardised_and_does_not_depend_on_the_grid(grid: Grid) -> None:
    wide = Grid((100, 100, 60), (4.0, 4.0, 6.0)).noise(np.random.default_rng(3), 10.0)
    assert abs(wide.mean()) < 0.1
    assert wide.std() == pytest.approx(1, abs=0.05)
    fine = Grid((81, 61, 21), (1.0, 1.0, 3.0)).noise(np.random.default_rng(4), 12.0)
    coarse = grid.noise(np.random.default_rng(4), 12.0)
    np.testing.assert_allclose(fine[::2, ::2], coarse, atol=1e-4)


def test_paint_writes_value_and_label(grid: Grid) -> None:
    canvas = Canvas(grid, -1000.0)
    ball = ellipsoid(grid, (0, 0, 0), (10, 10, 10))
    canvas.paint(ball, 50.0, 3)
    assert canvas.image[20, 15, 10] == 50
    assert canvas.image[0, 0, 0] == -1000
    assert canvas.label[20, 15, 10] == 3
    canvas.paint(ball + 5, 90.0, None)
    assert canvas.label[20, 15, 10] == 3
    assert canvas.image[20, 15, 10] == 90
