from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import label as components

from medssl.phantom import Phantom, head, torso

SMALL = {"shape": (72, 54, 44), "spacing": (5.2, 5.2, 5.0)}


@pytest.fixture(scope="module")
def torsos() -> list[Phantom]:
    return [torso(seed, **SMALL) for seed in (1, 2, 3)]


@pytest.fixture(scope="module")
def heads() -> list[Phantom]:
    return [head(seed, (60, 72, 60), (3.0, 3.0, 3.0)) for seed in (1, 2)]


def _mean(phantom: Phantom, name: str) -> float:
    number = {text: key for key, text in phantom.label_names.items()}[name]
    return float(np.median(phantom.image[phantom.label == number]))


def _dice(first: np.ndarray, second: np.ndarray) -> float:
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


@pytest.mark.parametrize("make", [torso, head])
def test_same_seed_same_patient_bit_for_bit(make) -> None:
    first, second = (make(7, (40, 48, 30), (5.0, 4.5, 7.0)) for _ in range(2))
    assert first.image.tobytes() == second.image.tobytes()
    assert first.label.tobytes() == second.label.tobytes()
    np.testing.assert_array_equal(first.affine, second.affine)


@pytest.mark.parametrize("make", [torso, head])
def test_shapes_and_types(make) -> None:
    phantom = make(0)
    assert phantom.image.ndim == 4
    assert phantom.image.shape == phantom.label.shape
    assert phantom.image.dtype == np.int16
    assert phantom.label.dtype == np.uint8
    assert set(np.unique(phantom.label)) == {0, *phantom.label_names}
    assert phantom.affine.dtype == np.float64
    assert phantom.lesions >= 1
    assert len(set(np.round(phantom.spacing, 3))) == 2


def test_hounsfield_units_of_the_tissues(torsos: list[Phantom]) -> None:
    for phantom in torsos:
        assert -900 < _mean(phantom, "lungs") < -750
        assert 85 < _mean(phantom, "liver") < 140
        assert 95 < _mean(phantom, "spleen") < 155
        assert 80 < _mean(phantom, "kidneys") < 210
        assert 90 < _mean(phantom, "spine") < 420
        corner = phantom.image[0, :4, -4:, :]
        assert abs(float(corner.mean()) + 1000) < 5


def test_contrast_of_the_head(heads: list[Phantom]) -> None:
    for phantom in heads:
        assert phantom.image.min() >= 0
        assert _mean(phantom, "ventricles") < 0.6 * _mean(phantom, "hippocampi")
        assert components(phantom.label[0] == 1)[1] == 2


def test_organs_lie_inside_the_body(torsos: list[Phantom], heads: list[Phantom]) -> None:
    for phantom in [*torsos, *heads]:
        edge = np.ones(phantom.label.shape[1:], dtype=bool)
        edge[2:-2, 2:-2] = False
        assert not phantom.label[0][edge].any()


def test_organs_are_on_their_side(torsos: list[Phantom]) -> None:
    """RAS+: the liver is to the right (high x), the spleen to the left, the spine at the back."""
    for phantom in torsos:
        middle = np.array(phantom.label.shape[1:]) / 2
        at = {
            name: np.argwhere(phantom.label[0] == number).mean(axis=0)
            for number, name in phantom.label_names.items()
        }
        assert at["liver"][0] > middle[0] + 5
        assert at["spleen"][0] < middle[0] - 5
        assert at["spine"][1] < middle[1] - 5
        assert at["lungs"][2] > at["liver"][2] > at["kidneys"][2]


def test_volumes_are_plausible(torsos: list[Phantom], heads: list[Phantom]) -> None:
    ranges = {
        "liver": (350, 2200), "spleen": (30, 450), "kidneys": (120, 700), "lungs": (700, 4500),
        "lesion": (0.3, 40), "hippocampi": (2, 25), "ventricles": (3, 70),
    }  # fmt: skip
    for phantom in [*torsos, *heads]:
        voxel = float(np.prod(phantom.spacing)) / 1000
        for number, name in phantom.label_names.items():
            if name in ranges:
                low, high = ranges[name]
                assert low < (phantom.label == number).sum() * voxel < high, name


def test_patients_differ(torsos: list[Phantom], heads: list[Phantom]) -> None:
    for group, names in ((torsos, (1, 3, 4)), (heads, (2,))):
        for number in names:
            overlap = _dice(group[0].label == number, group[1].label == number)
            assert 0.05 < overlap < 0.95


def test_a_finer_grid_shows_the_same_patient() -> None:
    coarse = torso(5, (64, 48, 40), (6.0, 6.0, 5.0))
    fine = torso(5, (128, 96, 40), (3.0, 3.0, 5.0))
    for number in (1, 4):
        small = (coarse.label[0] == number).sum() * 4
        assert small == pytest.approx((fine.label[0] == number).sum(), rel=0.08)


def test_a_grid_beyond_the_field_is_refused() -> None:
    with pytest.raises(ValueError, match="260 mm"):
        torso(0, (64, 48, 40), (10.0, 10.0, 5.0))
