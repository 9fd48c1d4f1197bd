import numpy as np
import pytest

from medssl.phantom.face import FEATURES, face


@pytest.mark.parametrize("contrast", ["CT", "T1", "FLAIR", "PT"])
def test_a_head_has_a_brain_and_a_face_before_it(contrast):
    head = face(3, contrast=contrast, spacing=(4, 4, 4), shape=(60, 72, 72))
    assert 1.2e6 < head.brain.sum() * 64 < 2.2e6  # mm^3
    assert set(head.features) == set(FEATURES)
    front = {name: np.argwhere(mask)[:, 1].mean() for name, mask in head.features.items()}
    middle = np.argwhere(head.brain)[:, 1].mean()
    assert all(front[name] > middle + 15 for name in ("eyes", "nose", "lips", "chin"))
    assert not any((mask & head.brain).any() for mask in head.features.values())


def test_the_seed_is_the_head():
    one, two, other = (face(seed, spacing=(6, 6, 6), shape=(40, 48, 48)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.image, two.image)
    assert (one.image != other.image).any()


def test_a_turned_head_has_its_nose_elsewhere():
    straight, turned = (
        face(1, spacing=(4, 4, 4), shape=(60, 72, 72), turn=turn)
        for turn in ((0, 0, 0), (0, 0, 20))
    )
    at = [np.argwhere(head.features["nose"]).mean(axis=0) for head in (straight, turned)]
    assert at[1][0] < at[0][0] - 6  # to the left of the patient, and the grid is RAS+
