from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from medssl.errors import MedsslError
from medssl.ingest.images import read_medmnist, read_png


def png(path, array, mode=None):
    Image.fromarray(array, mode).save(path, format="PNG")
    return path


def code_of(read, *arguments, **named):
    with pytest.raises(MedsslError) as caught:
        read(*arguments, **named)
    return caught.value.code


def test_grey_and_colour_png(tmp_path):
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    np.testing.assert_array_equal(read_png(png(tmp_path / "a", grey)), grey[None])
    deep = grey.astype(np.uint16) * 9000
    np.testing.assert_array_equal(read_png(png(tmp_path / "b", deep)), deep[None])
    colour = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    np.testing.assert_array_equal(read_png(png(tmp_path / "c", colour)), colour.transpose(2, 0, 1))


def test_palette_is_an_image_only_as_a_label_map(tmp_path):
    indices = np.array([[0, 1], [2, 1]], dtype=np.uint8)
    image = Image.fromarray(indices, "P")
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    image.save(tmp_path / "a", format="PNG")
    assert code_of(read_png, tmp_path / "a") == "PIXEL_FORMAT_UNSUPPORTED"
    np.testing.assert_array_equal(read_png(tmp_path / "a", label=True), indices[None])


def test_damaged_and_transparent_png(tmp_path):
    path = png(tmp_path / "a", np.random.default_rng(0).integers(0, 255, (40, 40), np.uint8))
    path.write_bytes(path.read_bytes()[:-300])
    assert code_of(read_png, path) == "DECODE_FAILED"
    path = png(tmp_path / "b", np.zeros((2, 2, 4), np.uint8))
    assert code_of(read_png, path) == "PIXEL_FORMAT_UNSUPPORTED"
    assert code_of(read_png, path, label=True) == "LABEL_INVALID"


def test_medmnist_shapes_splits_and_labels(tmp_path):
    np.savez(
        tmp_path / "a.npz",
        train_images=np.zeros((3, 4, 5, 3), np.uint8),
        train_labels=np.array([[0], [1], [0]]),
        val_images=np.zeros((2, 4, 5, 6), np.uint8),
        val_labels=np.array([[0, 1], [1, 1]]),
        test_images=np.zeros((1, 4, 5), np.uint8),
    )
    train, validation, test = read_medmnist(tmp_path / "a.npz")
    assert [p.split for p in (train, validation, test)] == ["train", "validation", "test"]
    assert train.images.shape == (3, 3, 4, 5)
    assert train.labels == [{"class": 0}, {"class": 1}, {"class": 0}]
    assert validation.images.shape == (2, 1, 4, 5, 6)
    assert validation.labels[0] == {"class_0": 0, "class_1": 1}
    assert (test.images.shape, test.labels) == ((1, 1, 4, 5), [{}])


def test_archives_that_are_not_medmnist(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.zeros(3))
    assert code_of(read_medmnist, path) == "ARCHIVE_INVALID"
    np.savez(path, train_images=np.zeros((2, 2)))
    assert code_of(read_medmnist, path) == "ARCHIVE_INVALID"
    np.savez(path, train_images=np.zeros((2, 2, 2)), train_labels=np.zeros((3, 1)))
    assert code_of(read_medmnist, path) == "ARCHIVE_INVALID"
    np.savez(path, train_images=np.full((2, 2, 2), np.nan))
    assert code_of(read_medmnist, path) == "VOXELS_INVALID"


def test_pickled_archive_is_never_opened(tmp_path):
    np.savez(tmp_path / "a.npz", train_images=np.array([{"run": "me"}], dtype=object))
    assert code_of(read_medmnist, tmp_path / "a.npz") == "DECODE_FAILED"
