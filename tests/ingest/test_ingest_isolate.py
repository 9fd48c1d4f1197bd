"""A file that crashes, hangs or swallows memory costs its own series; workers change nothing."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import pytest

from medssl.errors import MedsslError
from medssl.ingest import run
from medssl.ingest.isolate import Limits, run_jobs
from medssl.ingest.jobs import Job, Made
from medssl.ingest.pixels import SliceReader
from medssl.ingest.run import ingest
from medssl.store import Store, VolumeRecord


def made(name="v"):
    record = VolumeRecord(name, "s", "st", "se", "CT", labels={"age": 3}, defects=["DERIVED"])
    label = np.ones((1, 2, 3, 4), np.uint8)
    return Made(record, np.arange(24.0).reshape(1, 2, 3, 4), np.diag([1.0, 2, 3, 1]), "c", label)


def outcome(make, limits=None, isolated=True, scratch=None):
    """What one job makes, and the error that ends it."""
    job = Job([], make, isolated=isolated)
    found = []
    for _, results in run_jobs([job], scratch, 1, limits or Limits(seconds=20)):
        try:
            found.extend(results)
        except MedsslError as error:
            return found, error
    return found, None


@pytest.mark.parametrize("isolated", [True, False])
def test_a_volume_comes_back_as_it_was(tmp_path, isolated):
    (back,), error = outcome(lambda: iter([made()]), isolated=isolated, scratch=tmp_path)
    before = made()
    assert error is None
    assert (back.record, back.content, back.pixel_spacing) == (before.record, "c", None)
    for name in ("array", "affine", "label"):
        np.testing.assert_array_equal(getattr(back, name), getattr(before, name))
    assert list(tmp_path.iterdir()) == []


def raising(error):
    def make():
        yield made()
        raise error

    return make


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def hog():
    blocks = []
    while True:
        blocks.append(np.ones(2**24))
        yield made()


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (raising(MedsslError("DECODE_FAILED", "Pixels: it")), "DECODE_FAILED"),
        (raising(RuntimeError("Doe^Jane")), "READER_FAILED"),
        (raising(OSError(28, "no space")), "DISK_FULL"),
        (raising(OSError(5, "Doe^Jane")), "FILE_UNREADABLE"),
    ],
)
def test_what_is_raised_comes_back_after_what_was_made(tmp_path, make, code):
    found, error = outcome(make, scratch=tmp_path)
    assert (len(found), error.code) == (1, code)
    assert "Doe" not in str(error)


@pytest.mark.parametrize(
    ("make", "limits", "words"),
    [
        (die, None, "crashed"),
        (lambda: os._exit(3), None, "crashed"),
        (lambda: time.sleep(60), Limits(seconds=0.3), "too long"),
        (hog, Limits(seconds=60, bytes=2**29), "memory"),
    ],
)
def test_a_crash_a_hang_and_a_hog_are_refusals(tmp_path, make, limits, words):
    started = time.monotonic()
    _, error = outcome(make, limits, scratch=tmp_path)
    assert error.code == "READER_FAILED"
    assert words in error.what
    assert time.monotonic() - started < 30
    assert list(tmp_path.iterdir()) == []


def test_stopping_in_between_stops_the_workers(tmp_path):
    jobs = [Job([], lambda: time.sleep(60), isolated=True) for _ in range(3)]
    running = run_jobs(jobs, tmp_path, 3, Limits())
    next(running)
    started = time.monotonic()
    running.close()
    assert time.monotonic() - started < 5
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def tree(tmp_path, write_stack):
    for index in range(6):
        heights = [2.0 * k + index for k in range(3)]
        write_stack(tmp_path / "in" / str(index), heights=heights, series=f"1.{index + 1}")
    return tmp_path / "in"


def bytes_of(store):
    return {
        path.relative_to(store).as_posix(): path.read_bytes()
        for path in store.rglob("*")
        if path.is_file()
    }


def test_a_store_does_not_depend_on_the_number_of_workers(tree, tmp_path):
    key = tmp_path / "site.key"
    for workers in (1, 3):
        ingest(tree, tmp_path / f"store{workers}", key_file=key, workers=workers)
    assert bytes_of(tmp_path / "store1") == bytes_of(tmp_path / "store3")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_one_hostile_series_leaves_the_others(tree, tmp_path, monkeypatch):
    read = SliceReader.read

    def hostile(self, header):
        if header.series_uid == "1.3":
            die()
        if header.series_uid == "1.5":
            time.sleep(60)
        return read(self, header)

    monkeypatch.setattr(SliceReader, "read", hostile)
    monkeypatch.setattr(run.Limits, "of_this_machine", lambda workers: Limits(2.0, 0.0, 2**32))
    summary = ingest(tree, tmp_path / "store", workers=2)
    assert summary.counts == {("rejected", "READER_FAILED"): 6, ("used", ""): 12}
    assert len(Store.open(tmp_path / "store")) == 4
