import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from medssl.errors import MedsslError
from medssl.store import LedgerRow, Outcome, StoreInfo, StoreWriter, VolumeRecord
from medssl.store.intensity import IntensityContract
from medssl.training.cache import CacheSettings
from medssl.training.data import CropSource, loader, normalised
from medssl.training.pretrain_task import crops_of as as_crops


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


def flat_store(path, images, labels=None, **more):
    """A store of float or whole images as they are given, 1 mm, each its own subject."""
    names = [f"vol-{i}" for i in range(len(images))]
    with StoreWriter(path, StoreInfo(label_names={1: "spot"} if labels else {})) as writer:
        for i, (name, image) in enumerate(zip(names, images, strict=True)):
            own = {key: values[i] for key, values in more.items()}
            affine = own.pop("affine", np.eye(4))
            record = VolumeRecord(name, own.pop("subject_id", name), "s", "s", **own)
            label = labels[i] if labels else None
            writer.add_volume(record, image, affine if image.ndim == 4 else None, label)
        ledger = [LedgerRow(n, Outcome.USED, volume_id=n) for n in names]
        return writer.finish(ledger, len(names))


def counted(shape, dtype=np.int16):
    return np.arange(np.prod(shape), dtype=np.int64).reshape(1, *shape).astype(dtype)


def crops_of(store, size, **more):
    return CropSource(store, list(store), size, IntensityContract(), seed=3, **more)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_are_the_samples_whatever_the_workers(store, workers):
    crops = source(store, (6, 5, 9), foreground=0.5)
    plain = [default_collate([crops[n] for n in range(3 * s, 3 * s + 3)]) for s in range(4)]
    for got, want in zip(loader(crops, 3, 0, 4, workers), plain, strict=True):
        assert got.keys() == want.keys()
        assert all(torch.equal(got[name], want[name]) for name in want)
        assert all(got[name].dtype == want[name].dtype for name in want)


@pytest.mark.parametrize(
    ("dtypes", "wire"),
    [
        (["uint8"], torch.uint8),
        (["int16"], torch.int16),
        (["uint8", "int16"], torch.int16),
        (["uint16"], torch.uint16),
        (["uint16", "int16"], torch.float32),
        (["float32"], torch.float32),
        (["float64"], torch.float32),
        (["int32"], torch.float32),
    ],
)
def test_crops_travel_as_they_are_stored(tmp_path, dtypes, wire):
    values = {
        "uint8": counted((5, 6, 7)) % 251,
        "int16": counted((5, 6, 7)) - 30,
        "uint16": counted((5, 6, 7), np.int64) + 65000,
        "int32": counted((5, 6, 7), np.int64) * 1000,
        "float32": counted((5, 6, 7)) + 0.5,
        "float64": counted((5, 6, 7)) + 0.1,
    }
    store = flat_store(tmp_path / "s", [values[t] for t in dtypes], modality=["MR"] * 2)
    assert sorted(store.manifest["dtype"]) == sorted(dtypes)
    crops = crops_of(store, (3, 4, 5))
    for number in range(6):
        image, place = crops[number]["image"], crops.place(number)
        start = [int(v) for v in place.start]
        want = store[place.volume_id].crop(start, (3, 4, 5))
        assert image.dtype == wire
        np.testing.assert_array_equal(image.double().numpy(), want.astype(wire_of(wire)))


def wire_of(dtype):
    return np.float32 if dtype == torch.float32 else np.float64


def test_padding_is_zero_where_whole_numbers_would_not_be(tmp_path):
    mask = (counted((4, 4, 4)) % 2).astype(np.uint8)
    store = flat_store(tmp_path / "s", [mask], modality=["OT"])
    contract = IntensityContract(scheme="range", low=0, high=1)
    padded = CropSource(store, list(store), (6, 4, 4), contract, 0)[0]
    whole = CropSource(store, list(store), (4, 4, 4), contract, 0)[0]
    assert padded["image"].dtype == torch.float32  # 0.5 is no whole number
    assert whole["image"].dtype == torch.uint8
    image = normalised(default_collate([padded]))
    assert sorted(image.unique().tolist()) == [-1, 0, 1]
    assert (image == 0).sum() == 2 * 16


def test_whole_numbers_stay_where_padding_comes_out_near_zero(tmp_path):
    noise = np.random.default_rng(0).normal(500, 60, (1, 5, 5, 5)).round()
    store = flat_store(tmp_path / "s", [noise], modality=["MR"])
    sample = crops_of(store, (8, 8, 8))[0]
    assert sample["image"].dtype == torch.int16
    image = normalised(default_collate([sample]))
    assert image.abs().lt(1 / 32).sum() >= 512 - 125


def test_float16_is_refused_where_it_does_not_hold_the_values(tmp_path):
    store = flat_store(tmp_path / "s", [counted((5, 6, 7), np.int64) * 1000], modality=["MR"])
    with pytest.raises(MedsslError, match="CONFIG_INVALID"):
        crops_of(store, (4, 4, 4), dtype="float16")
    small = flat_store(tmp_path / "t", [counted((5, 6, 7))], modality=["MR"])
    assert crops_of(small, (4, 4, 4), dtype="float16")[0]["image"].dtype == torch.float16


def test_labels_are_read_only_where_they_are_asked_for(store):
    (store.path / "labels").rename(store.path / "hidden")
    try:
        crops = CropSource(store, list(store), (4, 4, 4), IntensityContract(), 3)
        assert crops[0]["label"].numel() == 0
        with pytest.raises(MedsslError, match="STORE_CORRUPT"):
            source(store)[0]
    finally:
        (store.path / "hidden").rename(store.path / "labels")


def test_without_labels_the_foreground_is_what_is_bright(tmp_path):
    image = np.random.default_rng(0).normal(0, 1, (1, 40, 40, 40))
    image[0, 30:38, 5:13, 20:28] += 1000
    store = flat_store(tmp_path / "s", [image], modality=["MR"])
    some = crops_of(store, (6, 6, 6), foreground=0.5)
    hits = sum(float(some[n]["image"].max()) > 500 for n in range(200))
    assert 90 < hits < 140  # half of them, and some of the others


PLANES = {
    "axial": (lambda v, k: v[::-1, ::-1, k].T, (3.0, 2.0)),
    "coronal": (lambda v, k: v[::-1, k, ::-1].T, (5.0, 2.0)),
    "sagittal": (lambda v, k: v[k, ::-1, ::-1].T, (5.0, 3.0)),
}


@pytest.mark.parametrize("plane", list(PLANES))
def test_planes_are_as_they_are_looked_at(tmp_path, plane):
    """The patient's left is on the right, the back or the feet are below; (row, column) mm."""
    volume = counted((9, 10, 11))
    affine = np.diag([2.0, 3.0, 5.0, 1.0])
    store = flat_store(tmp_path / "s", [volume], modality=["MR"], affine=[affine])
    shown, spacing = PLANES[plane]
    crops = crops_of(store, (6, 7), plane=plane)
    across = {"axial": 2, "coronal": 1, "sagittal": 0}[plane]
    for number in range(10):
        sample, place = crops[number], crops.place(number)
        assert sample["spacing"].tolist() == list(spacing)
        picture = shown(volume[0], int(place.start[across]))
        found = np.argwhere(picture == int(sample["image"][0, 0, 0]))
        row, column = found[0]
        want = picture[row : row + 6, column : column + 7]
        np.testing.assert_array_equal(sample["image"][0], want)
        corner = [int(v) for v in place.start]
        box = volume[0][
            tuple(slice(c, c + int(n)) for c, n in zip(corner, place.size, strict=True))
        ]
        assert set(box.ravel()) == set(want.ravel())


def test_any_plane_takes_all_and_spacing_is_that_of_the_crop(tmp_path):
    volume = np.random.default_rng(0).normal(size=(1, 20, 24, 12))
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    store = flat_store(tmp_path / "s", [volume], modality=["MR"], affine=[affine])
    crops = crops_of(store, (16, 16), plane="any", spacing=(1.0, 1.0))
    planes = [crops.place(n) for n in range(30)]
    assert len({place.plane for place in planes}) == 3
    assert crops[0]["image"].shape == (1, 16, 16)
    for place in planes:
        across = place.plane[0]
        size = [16.0, 16.0, 8.0]
        size[across] = 1.0
        assert list(place.size) == size
    with pytest.raises(MedsslError, match="CONFIG_INVALID"):
        crops_of(store, (16, 16, 16), plane="axial")


def test_groups_come_equally_often_and_a_wrong_column_is_named(tmp_path):
    kinds = ["CT"] * 5 + ["MR"]
    store = flat_store(tmp_path / "s", [counted((4, 4, 4)) + i for i in range(6)], modality=kinds)
    crops = crops_of(store, (3, 3, 3), balance=["modality"])
    seen = [crops.place(n).volume_id for n in range(20)]
    assert seen.count("vol-5") == 10
    with pytest.raises(MedsslError, match="Did you mean modality") as caught:
        crops_of(store, (3, 3, 3), balance=["modalty"])
    assert caught.value.code == "CONFIG_INVALID"


def test_times_of_a_series_share_a_turn_unless_told_otherwise(tmp_path):
    more = {
        "modality": ["MR"] * 5,
        "subject_id": ["a"] * 4 + ["b"],
        "part": [f"time={i}/4" for i in range(4)] + [""],
    }
    store = flat_store(tmp_path / "s", [counted((4, 4, 4)) + i for i in range(5)], **more)
    assert len(crops_of(store, (3, 3, 3))) == 2
    assert len(crops_of(store, (3, 3, 3), share_turns=False)) == 5


def test_a_damaged_array_is_named(tmp_path):
    store = flat_store(tmp_path / "s", [counted((9, 9, 9))], modality=["MR"])
    file = store.path / "arrays" / "vol-0.npy"
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(MedsslError, match="STORE_CORRUPT") as caught:
        next(iter(loader(crops_of(store, (3, 3, 3)), 1, 0, 1, 1)))
    assert caught.value.where == "vol-0"


@pytest.mark.parametrize(
    ("size", "more"),
    [
        ((6, 4, 5), {}),
        ((9, 7, 9), {"spacing": [1.0, 1.0, 1.0]}),
        ((20, 14, 12), {}),
        ((8, 6), {"plane": "axial"}),
        ((6, 6), {"plane": "coronal", "spacing": [1.0, 1.0]}),
        ((14, 16), {"plane": "sagittal"}),
    ],
)
@pytest.mark.parametrize("cached", [False, True])
def test_every_voxel_says_where_in_the_volume_it_lies(tmp_path, size, more, cached):
    shape, spacing = (16, 12, 10), np.array([1.0, 0.5, 2.0])
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"))
    where = (grid + 0.5) * spacing.reshape(3, 1, 1, 1)  # mm from the corner, as intensities
    with StoreWriter(tmp_path / "store", StoreInfo()) as writer:
        for name in "abc":
            record = VolumeRecord(name, "one" if name == "a" else "other", "s", name, "MR")
            writer.add_volume(record, where.astype(np.float32), np.diag([*spacing, 1.0]), None)
        rows = [LedgerRow(name, Outcome.USED, volume_id=name) for name in "abc"]
        store = writer.finish(rows, 3)
    cache = CacheSettings(tmp_path / "cache", "raw", None) if cached else None
    made = CropSource(
        store, list(store), size, IntensityContract(), seed=3, dtype="float32", cache=cache, **more
    )
    for number in range(8):
        sample = made[number]
        crops = as_crops({name: value[None] for name, value in sample.items()})
        voxels = torch.stack(torch.meshgrid(*map(torch.arange, size), indexing="ij"))[None].float()
        mm = crops.in_volume(voxels)[0]
        image = sample["image"]
        edge = torch.tensor(spacing).reshape(3, *[1] * len(size)) / 2
        extent = crops.extent.reshape(3, *[1] * len(size))
        inside = ((mm >= edge) & (mm <= extent - edge)).all(0)
        for axis in range(len(size)):  # where it is resampled, a crop's rim repeats its last voxel
            inside.index_fill_(axis, torch.tensor([0, size[axis] - 1]), False)
        assert inside.sum() > 10
        torch.testing.assert_close(mm[:, inside], image[:, inside], rtol=0, atol=0.02)
        ends = [end.reshape(-1, *[1] * len(size)) for end in crops.inside()]
        box = ((voxels[0] >= ends[0]) & (voxels[0] <= ends[1])).all(0)
        assert torch.equal(box, ((mm >= 0) & (mm <= extent)).all(0))
        assert crops.extent[0].tolist() == [16.0, 6.0, 20.0]
        assert sample["subject"] == (0 if sample["volume"] == 0 else 1)
    assert torch.allclose(crops.centre()[0] * crops.extent[0], mm.flatten(1).mean(1), atol=1e-4)
