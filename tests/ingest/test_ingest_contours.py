"""Contours to pixels, against a point-in-polygon loop in exact fractions and known areas."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as PolygonPath

from medssl.errors import MedsslError
from medssl.ingest import contours
from medssl.ingest.contours import fill, fill_islands


def inside_slowly(points, column, row):
    """Even-odd by one ray to the left, edge by edge, nothing rounded."""
    odd = False
    exact = [(Fraction(x), Fraction(y)) for x, y in points]
    for (x0, y0), (x1, y1) in zip(exact, exact[1:] + exact[:1], strict=True):
        if (y0 <= row) != (y1 <= row):
            x = x0 + (row - y0) * (x1 - x0) / (y1 - y0)
            odd ^= x <= column
    return odd


def slowly(polygons, shape):
    return np.array(
        [
            [sum(inside_slowly(p, c, r) for p in polygons) % 2 == 1 for c in range(shape[1])]
            for r in range(shape[0])
        ]
    )


def circle(radius, centre=(20.0, 20.0), count=720):
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([centre[0] + radius * np.cos(angle), centre[1] + radius * np.sin(angle)], 1)


def square(low, high):
    return np.array([[low, low], [high, low], [high, high], [low, high]], dtype=float)


# Eighths: corners and edges often meet the centres of pixels, and 1 / 264 is the nearest miss.
corner = st.integers(-64, 200).map(lambda n: n / 8)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.tuples(corner, corner), min_size=3, max_size=9), min_size=1, max_size=4)
)
def test_any_polygons_are_filled_as_the_slow_loop_does(lists):
    polygons = [np.array(points) for points in lists]
    np.testing.assert_array_equal(fill(polygons, (17, 13)), slowly(polygons, (17, 13)))


def test_star_shaped_polygons_are_filled_as_matplotlib_does():
    rng = np.random.default_rng(0)
    centres = np.stack(np.meshgrid(np.arange(40), np.arange(30)), -1).reshape(-1, 2)
    for _ in range(20):
        angle = np.sort(rng.uniform(0, 2 * np.pi, 40))
        radius = rng.uniform(3, 14, 40)
        star = np.stack([19.3 + radius * np.cos(angle), 14.6 + radius * np.sin(angle)], 1)
        want = PolygonPath(star).contains_points(centres).reshape(30, 40)
        np.testing.assert_array_equal(fill([star], (30, 40)), want)


@pytest.mark.parametrize("radius", [3.2, 9.7, 17.3])
def test_a_circle_has_its_pixels_and_its_area(radius):
    mask = fill([circle(radius, count=20000)], (41, 41))
    rows, columns = np.mgrid[:41, :41]
    np.testing.assert_array_equal(mask, (columns - 20) ** 2 + (rows - 20) ** 2 < radius**2)
    # Gauss's circle problem: the error is far below the circumference.
    assert abs(int(mask.sum()) - np.pi * radius**2) < 2 * np.pi * radius * 0.35


def test_rows_and_columns_are_not_mixed_up():
    mask = fill([np.array([[1.5, 0.5], [4.5, 0.5], [4.5, 2.5], [1.5, 2.5]])], (5, 7))
    assert np.argwhere(mask).tolist() == [[r, c] for r in (1, 2) for c in (2, 3, 4)]


def test_a_centre_on_an_edge_belongs_to_one_side_only():
    left, right = square(0, 4), square(0, 4) + np.array([4, 0])
    one, two = fill([left], (6, 10)), fill([right], (6, 10))
    assert not (one & two).any()
    assert (one | two).sum() == 4 * 8
    assert one[0, 0]
    assert not one[0, 4]


def test_a_hair_of_rounding_does_not_move_an_edge():
    for hair in (-1e-9, 0.0, 1e-9):
        np.testing.assert_array_equal(
            fill([square(1, 4) + hair], (6, 6)), fill([square(1, 4)], (6, 6))
        )


def test_a_straight_edge_through_centres_stays_straight():
    """Between corners at odd heights, the crossings of x = 3 come out as 3 give or take a hair."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        top, bottom = rng.uniform(-1, 0), rng.uniform(9, 10)
        edge = np.array([[3, top], [6, top - 0.1], [6, bottom + 0.1], [3, bottom]])
        mask = fill([edge], (9, 9))
        assert mask.all(axis=0).tolist() == [False] * 3 + [True] * 3 + [False] * 3
        assert mask.sum() == 27


def test_the_direction_of_a_contour_does_not_matter():
    shape, star = (41, 41), circle(13.3) * [1.0, 0.8]
    np.testing.assert_array_equal(fill([star], shape), fill([star[::-1]], shape))


def test_a_keyhole_is_a_hole():
    outer, inner = circle(15.2), circle(6.1)[::-1]
    keyhole = np.concatenate([outer, outer[:1], inner[:1], inner[1:], inner[:1]])
    want = fill([outer], (41, 41)) & ~fill([circle(6.1)], (41, 41))
    np.testing.assert_array_equal(fill([keyhole], (41, 41)), want)


def test_islands_holes_and_islands_in_holes():
    rings = [circle(4.3), circle(17.3), circle(9.1)]  # in any order
    want = fill([circle(17.3)], (41, 41)) & ~fill([circle(9.1)], (41, 41))
    want |= fill([circle(4.3)], (41, 41))
    np.testing.assert_array_equal(fill_islands(rings, (41, 41)), want)
    apart = [circle(4.1, (10, 10)), circle(4.1, (30, 10)), circle(2.1, (30, 10))]
    np.testing.assert_array_equal(fill_islands(apart, (41, 41)), fill(apart, (41, 41)))


@pytest.mark.parametrize(
    "other", [circle(9.1)[::-1], np.roll(circle(9.1), 5, 0), circle(9.1, (25, 20))]
)
def test_contours_that_repeat_or_cross_are_refused(other):
    with pytest.raises(MedsslError, match="LABEL_INVALID"):
        fill_islands([circle(9.1), other], (41, 41))


def test_a_small_contour_over_two_is_crossing_too():
    """Where it lies under two contours at once, each pixel of it is covered equally often."""
    two = [square(0.5, 10.5), square(0.5, 10.5) + np.array([10, 0])]
    across = np.array([[8.5, 3.5], [12.5, 3.5], [12.5, 6.5], [8.5, 6.5]])
    assert fill_islands(two, (12, 22)).sum() == 200
    with pytest.raises(MedsslError, match="cross"):
        fill_islands([*two, across], (12, 22))


def test_what_lies_outside_is_cut_off():
    big, away = square(-50, 90), square(60, 70)
    assert fill([big], (5, 6)).all()
    assert not fill([away], (5, 6)).any()
    assert fill_islands([big, square(1.5, 3.5)], (5, 6)).sum() == 30 - 4
    assert fill_islands([big, away, away + 20], (5, 6)).all()


def test_many_crossings_are_counted_in_pieces(monkeypatch):
    want = fill([circle(17.3)], (41, 41))
    monkeypatch.setattr(contours, "_CROSSINGS_AT_ONCE", 64)
    np.testing.assert_array_equal(fill([circle(17.3)], (41, 41)), want)
