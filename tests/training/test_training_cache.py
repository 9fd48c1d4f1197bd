"""The cache: crops of it are those of the store, resampled once and cut to the foreground."""

import json
import multiprocessing
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from medssl.errors import MedsslError
from medssl.store import LedgerRow, Outcome, StoreInfo, StoreWriter, VolumeRecord
from medssl.store.grid import resample
from medssl.store.intensity import IntensityContract
from medssl.training import cache_plan as planning
from medssl.training.cache import CacheSettings, foreground_box
from medssl.training.cache_plan import cache_plan
from medssl.training.data import CropSource, loader

LAYOUTS = [
    "raw",
    pytest.param(
        "compressed",
        marks=pytest.mark.skipif(find_spec("blosc2") is None, reason="blosc2 is not installed"),
    ),
]


def body(seed=0, shape=(30, 24, 20)):
    """Noisy air, a bright body in [8, 22) x [6, 18) x [5, 15), and a label of 2 x 2 x 2 in it."""
    rng = np.random.default_rng(seed)
    image = rng.normal(0, 2, (1, *shape)).round()
    image[0, 8:22, 6:18, 5:15] += rng.normal(500, 60, (14, 12, 10)).round()
    label = np.zeros(shape)
    label[10:12, 8:10, 7:9] = 1
    return image, label


@pytest.fixture
def store(tmp_path):
    with StoreWriter(tmp_path / "store", StoreInfo(label_names={1: "spot"})) as writer:
        for i in range(3):
            name = f"vol-{i}"
            image, label = body(i)
            affine = np.diag([1.0, 1.0, 2.0, 1.0])
            writer.add_volume(VolumeRecord(name, name, "s", "s", "MR"), image, affine, label)
        ledger = [LedgerRow(f"vol-{i}", Outcome.USED, volume_id=f"vol-{i}") for i in range(3)]
        return writer.finish(ledger, 3)


def crops_of(store, size=(6, 6, 6), **more):
    return CropSource(store, list(store), size, IntensityContract(), seed=3, **more)


def settings(tmp_path, layout="raw", most=None):
    return CacheSettings(tmp_path / "cache", layout, most)


def entries(tmp_path):
    return sorted(p.name for p in (tmp_path / "cache").iterdir() if p.is_dir())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("labels", [False, True])
def test_a_cached_crop_is_the_stores_own_and_knows_its_place(store, tmp_path, layout, labels):
    crops = crops_of(store, labels=labels, cache=settings(tmp_path, layout), foreground=0.3)
    assert crops[0]["image"].dtype == torch.int16
    for number in range(30):
        sample, place = crops[number], crops.place(number)
        start, size = [[int(v) for v in values] for values in (place.start, place.size)]
        volume = store[place.volume_id]
        np.testing.assert_array_equal(sample["image"], volume.crop(start, size))
        if labels:
            np.testing.assert_array_equal(sample["label"], volume.label_crop(start, size))
        ends = [first + n for first, n in zip(start, size, strict=True)]
        assert all(a >= b for a, b in zip(start, (8, 6, 5), strict=True))
        assert all(a <= b for a, b in zip(ends, (22, 18, 15), strict=True))
    assert len(entries(tmp_path)) == 3
    assert (tmp_path / "cache").stat().st_mode & 0o77 == 0


def test_a_volume_is_resampled_once(store, tmp_path, monkeypatch):
    calls = []

    def counting(array, size, order):
        calls.append(order)
        return resample(array, size, order)

    monkeypatch.setattr("medssl.training.cache.resample", counting)
    monkeypatch.setattr("medssl.training.crops.resample", counting)
    crops = crops_of(store, spacing=(1, 1, 1), cache=settings(tmp_path))
    for number in range(30):
        crops[number]
    assert calls == [1, 1, 1]
    place = crops.place(4)
    image = np.asarray(store[place.volume_id].array())[:, 8:22, 6:18, 5:15].astype(np.float32)
    whole = np.rint(resample(image, (14, 12, 20), 1))
    first = [round(v) for v in (place.start[0] - 8, place.start[1] - 6, (place.start[2] - 5) * 2)]
    want = whole[(slice(None), *(slice(f, f + 6) for f in first))]
    np.testing.assert_array_equal(crops[4]["image"], want)
    assert place.size == (6.0, 6.0, 3.0)
    assert crops[4]["spacing"].tolist() == [1, 1, 1]


def test_samples_do_not_depend_on_what_is_cached_already(store, tmp_path):
    fresh = crops_of(store, cache=settings(tmp_path / "a"))
    want = [fresh[n] for n in range(8)]
    again = crops_of(store, cache=settings(tmp_path / "a"))
    other = crops_of(store, cache=settings(tmp_path / "b"))
    for number in reversed(range(8)):
        for source in (again, other):
            got = source[number]
            assert all(torch.equal(want[number][k], got[k]) for k in ("image", "key"))


@pytest.mark.parametrize(
    "change", [{"spacing": (1, 1, 1)}, {"labels": True}, {"dtype": "float32"}, {"size": (7, 8, 9)}]
)
def test_what_an_entry_depends_on_is_in_its_name(store, tmp_path, change):
    crops_of(store, cache=settings(tmp_path))[0]
    crops_of(store, cache=settings(tmp_path), **change)[0]
    assert len(entries(tmp_path)) == 2
    crops_of(store, cache=settings(tmp_path), foreground=0.5, balance=["modality"])[0]
    assert len(entries(tmp_path)) == 2


def test_a_volume_of_foreground_is_read_from_the_store(store, tmp_path):
    source = crops_of(store, (28, 22, 19), cache=settings(tmp_path))
    assert source[0]["image"].shape == (1, 28, 22, 19)
    (entry,) = (tmp_path / "cache" / name for name in entries(tmp_path))
    assert sorted(p.name for p in entry.iterdir()) == ["entry.json", "places.npy"]
    assert json.loads((entry / "entry.json").read_text())["whole"] is True


def test_a_volume_of_foreground_is_compressed_where_that_is_asked_for(store, tmp_path):
    pytest.importorskip("blosc2")
    raw = crops_of(store, (28, 22, 19), cache=settings(tmp_path))[0]
    packed = crops_of(store, (28, 22, 19), cache=settings(tmp_path, "compressed"))[0]
    assert len(list((tmp_path / "cache").rglob("image.b2nd"))) == 1
    assert torch.equal(raw["image"], packed["image"])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_disk_it_may_take_is_kept_to(store, tmp_path, layout):
    limit = 12000 if layout == "raw" else 100
    crops = crops_of(store, cache=settings(tmp_path, layout, limit))
    with pytest.raises(MedsslError, match="DISK_FULL"):
        for number in range(3):
            crops[number]
    files = [p for p in (tmp_path / "cache").rglob("*") if p.is_file() and p.name != "bytes"]
    assert sum(p.stat().st_size for p in files if p.suffix != ".json") <= limit + 300
    assert not list((tmp_path / "cache").glob(".partial*"))
    assert int((tmp_path / "cache" / "bytes").read_text() or 0) <= limit


def test_a_full_disk_is_a_code_and_leaves_nothing(store, tmp_path, monkeypatch):
    def full(path, array):
        path.write_bytes(b"begun")
        raise OSError(28, "No space left on device", str(path))

    crops = crops_of(store, cache=settings(tmp_path))
    monkeypatch.setattr("medssl.training.cache.write_array", full)
    with pytest.raises(MedsslError, match="DISK_FULL") as caught:
        crops[0]
    assert str(tmp_path) not in str(caught.value)
    assert entries(tmp_path) == []
    assert (tmp_path / "cache" / "bytes").read_text() == "0"


def test_a_folder_that_cannot_be_made_is_a_code(store, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(MedsslError, match="CONFIG_INVALID"):
        crops_of(store, cache=settings(tmp_path))


def test_a_damaged_entry_is_named_and_the_store_is_not_blamed(store, tmp_path):
    crops_of(store, cache=settings(tmp_path))[0]
    (entry,) = (tmp_path / "cache" / name for name in entries(tmp_path))
    (entry / "image.npy").write_bytes(b"")
    with pytest.raises(MedsslError, match="Remove the cache") as caught:
        crops_of(store, cache=settings(tmp_path))[0]
    assert caught.value.where == entry.name


def test_workers_make_it_together(store, tmp_path):
    want = [b["image"].clone() for b in loader(crops_of(store), 3, 0, 0, 0)]
    cached = crops_of(store, cache=settings(tmp_path / "a"))
    want = [b["image"].clone() for b in loader(cached, 3, 0, 6, 0)]
    together = crops_of(store, cache=settings(tmp_path / "b"))
    got = [b["image"].clone() for b in loader(together, 3, 0, 6, 3)]
    assert all(torch.equal(a, b) for a, b in zip(want, got, strict=True))
    assert len(entries(tmp_path / "b")) == 3
    assert not list((tmp_path / "b" / "cache").glob(".partial*"))


def _read(store_path, folder, barrier):
    from medssl.store import Store

    barrier.wait()
    crops_of(Store.open(store_path), cache=CacheSettings(folder))[0]


def test_processes_that_make_the_same_entry_leave_one_and_count_it_once(store, tmp_path):
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(4)
    args = (store.path, tmp_path / "cache", barrier)
    running = [context.Process(target=_read, args=args) for _ in range(4)]
    for process in running:
        process.start()
    for process in running:
        process.join()
    assert [process.exitcode for process in running] == [0] * 4
    (name,) = entries(tmp_path)
    held = sum(p.stat().st_size for p in (tmp_path / "cache" / name).glob("*.npy"))
    counted = int((tmp_path / "cache" / "bytes").read_text())
    assert 0 <= held - counted <= 2 * 128  # headers


def test_the_box_holds_the_body_but_not_specks_and_never_less_than_a_crop():
    mask = np.zeros((40, 40, 40), bool)
    mask[10:20, 12:18, 5:9] = True
    mask[39, 0, 0] = True
    assert foreground_box(mask, [1, 1, 1]) == [(10, 20), (12, 18), (5, 9)]
    assert foreground_box(mask, [16, 6, 12]) == [(7, 23), (12, 18), (1, 13)]
    assert foreground_box(mask, [16, 6, 20]) == [(7, 23), (12, 18), (0, 20)]
    assert foreground_box(mask, [100, 1, 1])[0] == (0, 40)
    assert foreground_box(np.zeros((3, 4), bool), [1, 1]) == [(0, 3), (0, 4)]


def plan(store, size=(6, 6, 6), **more):
    return cache_plan(store, list(store), size, IntensityContract(), **more)


def test_the_plan_says_what_and_why(store, monkeypatch):
    assert plan(store, cache="off").choice == "off"
    small = plan(store)
    assert (small.choice, small.bytes) == ("off", 0)
    assert "stay in memory" in small.reason
    resampled = plan(store, spacing=(1, 1, 1))
    assert resampled.choice == "raw"
    assert "3 of 3 volumes are resampled" in resampled.reason
    assert resampled.bytes == 3 * 14 * 12 * 20 * 2
    monkeypatch.setattr(planning, "SMALL", 0)
    cut = plan(store)
    assert (cut.choice, cut.bytes) == ("raw", 3 * 14 * 12 * 10 * 2)
    assert "fills 12%" in cut.reason
    assert plan(store, (28, 22, 19)).choice == "off"
    assert plan(store, cache="compressed").choice == "compressed"
