from __future__ import annotations

import numpy as np
import pytest

from medssl.errors import MedsslError
from medssl.ingest.images import read_medmnist


def code_of(read, *arguments, **named):
    with pytest.raises(MedsslError) as caught:
        read(*arguments, **named)
    return caught.value.code


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
