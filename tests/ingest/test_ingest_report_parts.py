"""Parts of the page: which volumes are shown, where they are cut, windows, what stands out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from medssl.errors import CODES
from medssl.ingest.allowable import ALLOWABLE
from medssl.ingest.report.advice import ADVICE, advice
from medssl.ingest.report.odd import FEWEST, find_odd
from medssl.ingest.report.rows import Rows
from medssl.ingest.report.sample import Sample, choose, sample
from medssl.ingest.report.volumes import SOFT_TISSUE, WIDE, is_placed, spread, window_of
from medssl.store import Volume


def made(table):
    return Rows(pa.table(table.to_dict("list")), range(len(table)))


def table(*rows):
    columns = ["volume_id", "subject_id", "series_id", "modality", "dims"]
    return pd.DataFrame([[*row, 3][:5] for row in rows], columns=columns)


def chosen(rows, most):
    return [rows["volume_id"].iloc[i] for i in choose(made(rows), most)]


def test_modalities_subjects_and_series_take_turns():
    rows = table(
        ("a", "s1", "e1", "CT"), ("b", "s1", "e1", "CT"), ("c", "s1", "e2", "CT"),
        ("d", "s2", "e3", "CT"), ("m", "s1", "e9", "MR"),
    )  # fmt: skip
    assert chosen(rows, 9) == ["a", "m", "d", "c", "b"]
    assert chosen(rows, 2) == ["a", "m"]
    assert chosen(rows.iloc[::-1], 9) == chosen(rows, 9)


class Held(Volume):
    """A volume whose arrays are in memory."""

    def __init__(self, array, label=None, modality="MR", **row):
        shape = list(array.shape)
        super().__init__(None, {"volume_id": "v", "modality": modality, "shape": shape, **row})
        self._array, self._label = array[None], None if label is None else label[None]

    def array(self):
        return self._array

    def label(self):
        return self._label


def test_the_cut_goes_through_the_middle_of_the_foreground():
    array = np.zeros((30, 40, 20), dtype=np.int16)
    array[20:25, 5:10, 12:17] = 100
    assert sample(Held(array)).centre == (22, 7, 14)
    flat = np.full((9, 8), 7)
    assert sample(Held(flat)).centre == (4, 4, 0)


def test_a_large_volume_is_looked_at_in_part():
    array = np.zeros((200, 160, 120), dtype=np.int16)
    array[150:190, 20:60, 80:110] = 100
    found = sample(Held(array))
    assert 20_000 < found.values.size < 90_000
    assert found.centre == pytest.approx((169.5, 39.5, 94.5), abs=3)


def test_the_cut_shows_most_of_a_label_and_its_shares():
    label = np.zeros((30, 40, 20), dtype=np.uint8)
    label[4, 30, 3:18] = 1
    label[2:9, 30, 6] = 2
    found = sample(Held(np.ones(label.shape), label))
    assert found.centre == (4, 30, 6)
    assert found.labels == {0: label.size - 21, 1: 14, 2: 7}
    assert sample(Held(np.ones(label.shape), np.zeros_like(label))).centre == (15, 20, 10)


@pytest.mark.parametrize(
    ("values", "ends", "expected"),
    [
        ([-1000] * 5 + [-100, 40, 60, 800], (-1000, 800), SOFT_TISSUE),
        ([-1000] * 5 + [-800] * 3 + [40] * 6, (-1000, 40), WIDE),
    ],
)
def test_ct_is_shown_in_hounsfield_windows(values, ends, expected):
    volume = Held(np.zeros((1, 1, 1)), modality="CT")
    window, text = window_of(volume, Sample(np.array(values, float), ends, (0, 0, 0)))
    assert window == expected
    assert text == f"W {expected.width:g} L {expected.centre:g} HU"


def test_other_values_are_shown_between_their_percentiles():
    volume = Held(np.zeros((1, 1, 1)))
    values = np.array([0.0, 9.0])
    window, text = window_of(volume, Sample(values, (10.0, 30.0), (0, 0, 0)))
    assert (window.centre, window.width, text) == (20, 20, "window 10 to 30")
    mask, _ = window_of(volume, Sample(values, (0.0, 0.0), (0, 0, 0)))
    assert (mask.centre, mask.width) == (4.5, 9)
    ct = Held(np.zeros((1, 1, 1)), modality="CT")
    stored, _ = window_of(ct, Sample(values, (1000.0, 3000.0), (0, 0, 0)))
    assert stored.width == 2000  # not in HU: shown as what it is


def test_a_file_without_geometry_places_nothing():
    array = np.zeros((1, 1, 1))
    assert is_placed(Held(array, source="nifti"))
    assert not is_placed(Held(array, source="npz"))
    assert not is_placed(Held(array, source="other", defects=np.array(["AFFINE_INVALID"])))


def test_values_of_one_unit_share_an_axis_and_others_their_own_range():
    def pair(low, high):
        return Held(np.zeros((1,))), Sample(np.linspace(low, high, 50), (low, high), (0, 0, 0))

    alike = spread("MR", {"a": pair(0, 100), "b": pair(0, 150)}, 2)
    assert ">150</text>" in alike.svg
    apart = spread("MR", {"a": pair(0, 100), "b": pair(0, 100_000)}, 9)
    assert "own range" in apart.svg
    assert apart.caption == "MR: voxel values in 2 of 9 volumes."
    assert spread("MR", {}, 0) is None


def manifest(count, modality="MR", **changed):
    rng = np.random.default_rng(0)
    rows = [
        {
            "volume_id": f"v{i:02d}", "modality": modality, "dims": 3,
            "spacing": [1.0, 1.0, 2.0], "shape": [64, 64, 30 + int(rng.integers(0, 3))],
            "min": -1000.0, "p005": -900.0 + i, "p500": 20.0, "p995": 900.0 + 5 * i,
        }
        for i in range(count)
    ]  # fmt: skip
    for key, value in changed.items():
        rows[3][key] = value
    return pd.DataFrame(rows)


def odd_of(table):
    return find_odd(made(table))


def test_what_lies_far_from_its_modality_stands_out():
    assert odd_of(manifest(20)) == ([], [])
    (odd,), several = odd_of(manifest(20, spacing=[1.0, 1.0, 9.0]))
    assert (odd.volume_id, several) == ("v03", [])
    assert odd.reasons == ["Voxels of 9 mm along z; most have 2"]
    (odd,), _ = odd_of(manifest(20, shape=[64, 64, 3]))
    assert odd.reasons == ["3 voxels along z; most have 30 to 32"]
    (odd,), _ = odd_of(manifest(20, "CT", p500=-700.0))
    assert "-700 HU" in odd.reasons[0]


def test_the_farthest_comes_first_and_too_few_are_not_judged():
    rows = manifest(30, spacing=[1.0, 1.0, 9.0])
    rows.at[5, "spacing"] = [1.0, 1.0, 90.0]
    assert [odd.volume_id for odd in odd_of(rows)[0]] == ["v05", "v03"]
    assert odd_of(manifest(FEWEST - 1, spacing=[1.0, 1.0, 9.0])) == ([], [])


def test_a_second_kind_is_no_exception():
    rows = manifest(20)
    for i in range(5):
        rows.at[i, "spacing"] = [1.0, 1.0, 9.0]
    odd, several = odd_of(rows)
    assert odd == []
    assert several == ["MR 3D, spacing along z: 25 %"]


def test_ct_that_is_not_in_hounsfield_units_stands_out_at_once():
    (odd,), _ = odd_of(manifest(4, "CT", min=0.0))
    assert odd.reasons == ["Values from 0 to 915 are unusual for HU; was the CT rescaled?"]


def test_percentiles_may_be_missing():
    rows = manifest(20, spacing=[1.0, 1.0, 9.0]).drop(columns=["min", "p005", "p500", "p995"])
    assert len(odd_of(rows)[0]) == 1


def test_every_advice_is_for_a_code_and_names_the_way_round():
    assert set(ADVICE) <= set(CODES)
    for code in ALLOWABLE:
        assert f"`--allow {code}`" in advice(code)
    assert "--allow" not in advice("FILE_TRUNCATED")
    assert advice("NO_SUCH_CODE") == ""
