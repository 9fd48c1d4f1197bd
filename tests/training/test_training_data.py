import numpy as np
import pytest

from medssl.store import LedgerRow, Outcome, StoreInfo, StoreWriter, VolumeRecord
from medssl.store.intensity import IntensityContract
from medssl.training.data import CropSource, loader, normalised


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "store"
    rng = np.random.default_rng(0)
    rows = []
    with StoreWriter(path, StoreInfo(label_names={1: "spot"})) as writer:
        for i in range(5):
            name = f"vol-{i}"
            label = np.zeros((12, 10, 8))
            label[9, 7, 6] = 1
            image = rng.normal(100 * (i + 1), 10, (1, 12, 10, 8))
            affine = np.diag([1.0, 1, 2, 1])
            writer.add_volume(VolumeRecord(name, name, "s", "s", "MR"), image, affine, label)
            rows.append(LedgerRow(name, Outcome.USED, volume_id=name))
        return writer.finish(rows, 5)


def source(store, size=(6, 6, 6), **more):
    return CropSource(store, list(store), size, IntensityContract(), seed=3, labels=True, **more)


def test_a_sample_depends_only_on_its_number(store):
    first, second = source(store), source(store)
    second[7]
    for name in ("image", "label", "key"):
        np.testing.assert_array_equal(first[3][name], second[3][name])
    assert not np.array_equal(first[3]["image"], first[8]["image"])


def test_every_volume_comes_once_per_epoch(store):
    crops = source(store)
    for epoch in range(3):
        shifts = {float(crops[epoch * 5 + i]["normalisation"][2]) for i in range(5)}
        assert len(shifts) == 5


def test_a_resumed_loader_goes_on_where_it_was(store):
    whole = [b["key"].tolist() for b in loader(source(store), 2, 0, 6, 0)]
    rest = [b["key"].tolist() for b in loader(source(store), 2, 4, 6, 0)]
    assert whole[4:] == rest
    assert len(whole) == 6


def test_small_volumes_are_padded_to_zero_after_normalising(store):
    batch = next(iter(loader(source(store, (16, 12, 8)), 2, 0, 1, 0)))
    image = normalised(batch)
    assert image.shape == (2, 1, 16, 12, 8)
    assert (image == 0).sum() >= 2 * (16 * 12 - 12 * 10) * 8
    assert image.std() == pytest.approx(0.8, abs=0.3)


def test_foreground_crops_hold_the_label(store):
    crops = source(store, (4, 4, 4), foreground=1.0)
    assert all(int(crops[i]["label"].sum()) == 1 for i in range(20))


def test_foreground_crops_hold_small_classes_as_often_as_large_ones(tmp_path):
    label = np.zeros((12, 10, 8))
    label[:4] = 1
    label[11, 9, 7] = 2
    with StoreWriter(tmp_path / "store", StoreInfo(label_names={1: "slab", 2: "spot"})) as writer:
        image = np.random.default_rng(0).normal(size=(1, 12, 10, 8))
        writer.add_volume(VolumeRecord("v", "v", "s", "s", "MR"), image, np.eye(4), label)
        store = writer.finish([LedgerRow("v", Outcome.USED, volume_id="v")], 1)
    crops = source(store, (3, 3, 3), foreground=1.0)
    spots = sum(2 in crops[i]["label"] for i in range(200))
    assert 70 < spots < 130  # by voxels it would be one in 321


def test_crops_at_another_spacing_cover_the_same_extent(store):
    crops = source(store, (12, 10, 16), spacing=(1.0, 1.0, 1.0))
    sample = crops[0]
    assert sample["image"].shape == (1, 12, 10, 16)
    assert int(sample["label"].sum()) == 2
    assert sample["label"][0, 9, 7].nonzero().ravel().tolist() == [12, 13]
