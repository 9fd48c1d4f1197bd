import numpy as np
import pandas as pd
import pytest

from medssl.store.intensity import STATISTICS, IntensityContract, statistics


def test_statistics_of_a_known_array():
    array = np.concatenate([np.zeros(500), np.arange(1, 501)])
    stats = statistics(array)
    assert stats["min"] == 0
    assert stats["max"] == 500
    assert stats["mean"] == pytest.approx(array.mean())
    assert stats["p995"] == pytest.approx(np.percentile(array, 99.5))
    foreground = array[array > 0.1 * stats["p995"]]
    assert stats["fg_mean"] == pytest.approx(np.clip(foreground, 0, stats["p995"]).mean())


def test_zscore_does_not_depend_on_the_scanner_scale():
    array = np.random.default_rng(0).gamma(2.0, 50.0, 5000)
    contract = IntensityContract()
    small = contract.normalise(array, statistics(array))
    large = contract.normalise(array * 4000 + 17, statistics(array * 4000 + 17))
    np.testing.assert_allclose(small, large, atol=1e-3)
    assert small.dtype == np.float32


def test_window_maps_its_ends_to_one_and_clips():
    contract = IntensityContract.for_modality("CT")
    values = contract.normalise(np.array([-3000, -1000, 0, 1000, 3000]), {})
    assert values.tolist() == [-1, -1, 0, 1, 1]


def test_range_does_not_clip():
    table = pd.DataFrame({"modality": "OT", "dtype": "uint8", "min": [0, 3], "max": [255, 9]})
    contract = IntensityContract.for_volumes(table)
    np.testing.assert_allclose(contract.normalise(np.array([0, 255, 510]), {}), [-1, 1, 3])


@pytest.mark.parametrize(
    ("modality", "dtype", "scheme"),
    [("OT", "uint16", "zscore"), ("MR", "uint8", "zscore"), ("CT", "int16", "window")],
)
def test_the_default_follows_modality_and_type(modality, dtype, scheme):
    table = pd.DataFrame({"modality": [modality], "dtype": [dtype], "min": [0], "max": [9]})
    assert IntensityContract.for_volumes(table).scheme == scheme


def test_a_constant_foreground_stays_finite():
    stats = statistics(np.array([0.0] * 90 + [5.0] * 10))
    assert np.isfinite(IntensityContract().normalise(np.array([0.0, 5.0]), stats)).all()


@pytest.mark.parametrize(
    "array",
    [
        np.random.default_rng(0).integers(-1024, 3071, (9, 8, 7)).astype(np.int16),
        np.random.default_rng(1).integers(0, 2**40, 1001),
        np.random.default_rng(2).normal(size=500).astype(np.float32),
        np.array([3]),
        np.array([1, 2], dtype=np.uint8),
        np.array([7] * 999 + [9]),
    ],
    ids=lambda array: f"{array.dtype}-{array.size}",
)
def test_statistics_are_those_of_sorted_voxels(array):
    values = array.astype(np.float64).ravel()
    low, middle, high = np.percentile(values, (0.5, 50.0, 99.5))
    bright = values[values > low + 0.1 * (high - low)]
    clipped = np.clip(bright if bright.size else values, low, high)
    expected = [values.min(), values.max(), values.mean(), values.std(), low, middle, high]
    expected += [clipped.mean(), clipped.std()]
    found = statistics(array)
    assert list(found) == list(STATISTICS)
    np.testing.assert_allclose(list(found.values()), expected, rtol=1e-9, atol=1e-9)
