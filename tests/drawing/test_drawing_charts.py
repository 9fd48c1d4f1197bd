"""Charts whose numbers are worked out by hand."""

from __future__ import annotations

import re

import numpy as np

from medssl.drawing.charts import differ, histogram, number, shares


def test_bars_are_as_high_as_the_roots_of_the_counts() -> None:
    svg = histogram([0, 1, 4], 0, 3, size=(30, 10))
    # From the bottom: nothing, half, all of the height.
    assert 'd="M0 10V10.0H10.0V5.0H20.0V0.0H30.0V10Z"' in svg
    assert ">0</text>" in svg
    assert ">3</text>" in svg


def test_the_window_is_shaded_within_the_bars() -> None:
    svg = histogram([1, 1], 0, 100, size=(200, 10), shaded=(-50, 25))
    assert '<rect class="band" x="0.0" y="0" width="50.0" height="10"/>' in svg


def test_no_counts_are_no_bars() -> None:
    assert "nan" not in histogram([0, 0], 0, 1)
    assert "<text" not in histogram([1], 0, 1, ends=False)


def test_shares_fill_the_bar() -> None:
    svg = shares([("used", 3), ("rejected", 1)], size=(100, 5))
    assert [float(w) for w in re.findall(r'width="([\d.]+)"', svg)] == [75, 25]
    assert 'aria-label="used 3, rejected 1"' in svg
    assert "nan" not in shares([("used", 0)])


def test_text_is_escaped() -> None:
    svg = histogram([1], 0, 1, unit="<b>", title='"><script>')
    assert "<b>" not in svg
    assert "<script" not in svg
    assert "<i>" not in shares([("<i>", 1)])


def test_numbers_are_short() -> None:
    values = (0, 1, 0.703125, -3024, 370600.4, 1234.56)
    assert [number(v) for v in values] == ["0", "1", "0.7031", "-3,024", "370,600", "1,235"]


def test_rounding_makes_no_difference() -> None:
    assert not differ(3.4, float(np.nextafter(3.4, 4)))
    assert not differ(0, 0)
    assert not differ(2, 1)
    assert differ(-1, 0)
    assert differ(0, 1e-9)
