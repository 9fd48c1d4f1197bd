import numpy as np
import pytest

from medssl.store import Store
from medssl.store.thumbnails import (
    MARKS,
    _cell_means,
    describe_array,
    flipped,
    marks,
    prints_of,
    step,
    thumbnail,
)


def test_cell_means_are_exact_for_whole_and_for_cut_voxels():
    line = np.array([[1.0, 2.0, 3.0, 5.0]])
    edges = [np.array([0.0, 1.0]), np.array([0.5, 1.5, 4.0])]
    # half of 1 and half of 2; half of 2, all of 3 and 5, over 2.5 voxels
    np.testing.assert_allclose(_cell_means(line, edges), [[1.5, (1 + 3 + 5) / 2.5]])


@pytest.mark.parametrize("shape", [(17, 30, 5), (90, 41)], ids=["3d", "2d"])
def test_a_thumbnail_has_mean_0_length_1_and_turns_with_the_image(shape):
    image = np.random.default_rng(0).random(shape)
    found = thumbnail(image)
    assert found.shape == (4096,)
    assert abs(found.mean()) < 1e-6
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5)
    mirror = thumbnail(image[::-1] if len(shape) == 3 else image[:, ::-1])
    np.testing.assert_allclose(flipped(mirror[None], len(shape))[0], found, atol=1e-4)


def test_marks_outlive_what_keeps_the_order_and_nothing_else():
    image = np.random.default_rng(0).random((20, 20, 20))
    found = marks(image)
    assert len(set(found.tolist())) == MARKS
    for same in (image**3, -5 + 2 * image, image[::-1]):
        np.testing.assert_array_equal(marks(same), found)
    assert not set(marks(-image).tolist()) & set(found.tolist())
    assert not set(marks(image[:, ::-1]).tolist()) & set(found.tolist())


def test_flat_surroundings_are_no_marks():
    image = np.zeros((9, 9, 9))
    image[4, 4, 4] = 1
    assert not marks(image).any()
    assert not marks(np.ones((3, 3))).any()


@pytest.mark.parametrize("offset", [0.0, -1024.0])
def test_the_step_is_found_to_a_millionth(offset):
    levels = np.random.default_rng(0).integers(0, 3000, (16, 16, 16))
    image = (offset + 1.7283419 * levels).astype(np.float32)
    assert step(image) == pytest.approx(1.7283419, rel=1e-6)


@pytest.mark.parametrize(
    "image",
    [
        np.arange(4000),
        np.arange(4000) * 0.5,
        np.arange(4000) / 4095,
        np.random.default_rng(0).random(4000),
        np.arange(10) * 1.7283419,
    ],
    ids=["whole numbers", "a half", "a 4095th", "no step", "few levels"],
)
def test_what_is_no_step_or_a_common_one_gives_0(image):
    assert step(image) == 0


def test_a_large_volume_is_looked_at_in_part():
    image = np.random.default_rng(0).integers(0, 1000, (1, 300, 150, 10), dtype=np.int16)
    found = describe_array("h", image)
    assert found.thumbnail.shape == (1, 4096)
    np.testing.assert_array_equal(found.marks[0], marks(image[0, 86:214, 11:139]))


def test_prints_are_kept_and_only_new_volumes_are_read(blob_store, tmp_path, monkeypatch):
    store = Store.open(blob_store)
    cache = tmp_path / "splits" / "thumbnails.npz"
    first = prints_of(store, cache)
    assert first.sha256.tolist() == store.manifest["sha256"].tolist()
    monkeypatch.setattr("medssl.store.thumbnails.describe_array", None)
    again = prints_of(store, cache)
    np.testing.assert_array_equal(again.thumbnail, first.thumbnail)
    np.testing.assert_array_equal(again.marks, first.marks)
    monkeypatch.undo()
    cache.write_bytes(cache.read_bytes()[:1000])
    np.testing.assert_array_equal(prints_of(store, cache).marks, first.marks)
