import json

import numpy as np
import pytest

from medssl.errors import MedsslError
from medssl.store import LedgerRow, Outcome, Store, StoreInfo, StoreWriter, VolumeRecord
from medssl.store.arrays import smallest_lossless

LPS = np.diag([-2.0, -1.0, 3.0, 1.0])


def record(name="vol-a", **more):
    return VolumeRecord(name, "sub-a", "stu-a", "ser-a", "MR", **more)


def row(path="p1", volume="vol-a"):
    return LedgerRow(path, Outcome.USED, volume_id=volume)


def cube(shape=(1, 3, 4, 5)):
    return np.arange(np.prod(shape)).reshape(shape)


@pytest.fixture
def store(tmp_path):
    with StoreWriter(tmp_path / "store", StoreInfo(label_names={1: "liver"})) as writer:
        label = np.zeros((3, 4, 5))
        label[0, 0, 0] = 1
        writer.add_volume(record(labels={"age": 61}), cube(), LPS, label)
        writer.add_volume(record("vol-b"), cube((1, 6, 7)), None)
        return writer.finish([row(), row("p2", "vol-b")], files_found=2)


def test_round_trip(store):
    volume = store["vol-a"]
    np.testing.assert_array_equal(volume.array(), cube()[:, ::-1, ::-1])
    assert volume.array().dtype == np.uint8
    assert volume.spacing == (2.0, 1.0, 3.0)
    assert volume.source_orientation == "LPS"
    np.testing.assert_allclose(volume.affine[:3, 3], [-4, -3, 0])
    assert volume.label()[0, 2, 3, 0] == 1
    assert volume.label().sum() == 1
    assert store["vol-b"].dims == 2
    assert store["vol-b"].label() is None
    assert list(store) == ["vol-a", "vol-b"]
    assert store.label_columns() == ["age"]
    assert len(store.ledger) == 2


def test_crop_reads_the_right_voxels_and_refuses_to_leave(store):
    crop = store["vol-a"].crop((1, 0, 2), (2, 2, 3))
    np.testing.assert_array_equal(crop, store["vol-a"].array()[:, 1:3, 0:2, 2:5])
    assert store["vol-a"].label_crop((2, 3, 0), (1, 1, 1)).item() == 1
    for start, size in [((2, 0, 0), (2, 1, 1)), ((-1, 0, 0), (1, 1, 1)), ((0, 0), (1, 1))]:
        with pytest.raises(ValueError, match="crop|axis"):
            store["vol-a"].crop(start, size)


def test_fingerprint_follows_the_data(store, tmp_path):
    with StoreWriter(tmp_path / "other", StoreInfo()) as writer:
        writer.add_volume(record(), cube() + 1, LPS)
        other = writer.finish([row()], 1)
    assert store.fingerprint() == Store.open(store.path).fingerprint()
    assert store.fingerprint() != other.fingerprint()


def test_a_changed_array_is_found(store):
    store["vol-a"].verify()
    path = store.path / "arrays" / "vol-a.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(MedsslError, match="STORE_CORRUPT"):
        store["vol-a"].verify()


def test_an_existing_store_is_never_overwritten(store):
    with pytest.raises(MedsslError, match="STORE_EXISTS"):
        StoreWriter(store.path, StoreInfo())


@pytest.mark.parametrize(
    ("ledger", "found"), [([row()], 2), ([row(), row()], 2), ([row(), row("p2")], 1)]
)
def test_a_ledger_that_does_not_add_up_leaves_nothing(tmp_path, ledger, found):
    with (
        pytest.raises(MedsslError, match="LEDGER_MISMATCH"),
        StoreWriter(tmp_path / "store", StoreInfo()) as writer,
    ):
        writer.add_volume(record(), cube(), LPS)
        writer.finish(ledger, found)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_store_is_refused(tmp_path):
    with StoreWriter(tmp_path / "s", StoreInfo()) as writer:
        with pytest.raises(MedsslError, match="NOTHING_USABLE"):
            writer.finish([], 0)
        writer.abort()


@pytest.mark.parametrize(
    ("array", "label", "code"),
    [
        (np.full((1, 2, 2, 2), np.nan), None, "VOXELS_INVALID"),
        (np.ones((1, 2, 2, 2)), None, "VOLUME_EMPTY"),
        (cube(), np.zeros((3, 4, 4)), "LABEL_GRID_MISMATCH"),
        (cube(), np.full((3, 4, 5), 0.5), "LABEL_INVALID"),
        (cube(), np.full((3, 4, 5), -1), "LABEL_INVALID"),
    ],
)
def test_bad_volumes_are_refused(tmp_path, array, label, code):
    writer = StoreWriter(tmp_path / "s", StoreInfo())
    with pytest.raises(MedsslError, match=code):
        writer.add_volume(record(), array, np.eye(4), label)


@pytest.mark.parametrize("damage", ["missing", "json", "format"])
def test_a_damaged_store_does_not_open(store, damage):
    file = store.path / "store.json"
    if damage == "missing":
        file.unlink()
    elif damage == "json":
        file.write_text("{")
    else:
        file.write_text(json.dumps({"format_version": 99}))
    with pytest.raises(MedsslError, match="STORE_FORMAT" if damage == "format" else "STORE_INV"):
        Store.open(store.path)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([0.0, 255.0], np.uint8),
        ([-1, 5], np.int16),
        ([0, 65535], np.uint16),
        ([0, 70000], np.int32),
        ([0.5, 1], np.float32),
        ([0.1, 1], np.float64),
    ],
)
def test_smallest_dtype_keeps_every_value(values, dtype):
    array = np.array(values)
    small = smallest_lossless(array)
    assert small.dtype == dtype
    np.testing.assert_array_equal(small, array)
