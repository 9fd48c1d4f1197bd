"""A file that crashes, hangs or swallows memory costs its own series; workers change nothing."""

from __future__ import annotations

import os
import signal
import time
import zlib

import numpy as np
import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian
from stores import bytes_of

from medssl.errors import MedsslError
from medssl.ingest import run, volume
from medssl.ingest.isolate import Limits
from medssl.ingest.journal import Item
from medssl.ingest.pixels import SliceReader
from medssl.ingest.pool import Pool, run_items
from medssl.ingest.run import ingest
from medssl.store import Store

PATIENT = Limits(seconds=20)


def call(payload, folder):
    """Work: payloads that are functions are called, others come back."""
    return payload() if callable(payload) else payload


def outcomes(payloads, folder, limits=PATIENT, workers=1, files=1):
    items = [Item(f"k{n}", payload, files) for n, payload in enumerate(payloads)]
    answers = list(run_items(call, items, folder, Pool(workers, limits)))
    assert [item.key for item, _ in answers] == [item.key for item in items]
    return [answer for _, answer in answers]


def raising(error):
    def work():
        raise error

    return work


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def hog():
    return len([np.ones(2**24) for _ in range(2**16)])


@pytest.mark.parametrize("workers", [1, 3])
def test_answers_come_in_order(tmp_path, workers):
    values = [{"a": [n, None, "x", 0.1]} for n in range(50)]
    assert [answer.value for answer in outcomes(values, tmp_path, workers=workers)] == values


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MedsslError("DECODE_FAILED", "Pixels: it"), "DECODE_FAILED"),
        (RuntimeError("Doe^Jane"), "READER_FAILED"),
        (OSError(5, "Doe^Jane"), "FILE_UNREADABLE"),
        (MemoryError(), "READER_FAILED"),
    ],
)
def test_what_is_raised_comes_back_and_the_rest_goes_on(tmp_path, error, code):
    one, two, three = outcomes([1, raising(error), 3], tmp_path)
    assert (one.value, three.value) == (1, 3)
    assert two.error[0] == code
    assert "Doe" not in two.error[1]


def test_a_full_disk_ends_it_and_is_not_remembered(tmp_path):
    with pytest.raises(MedsslError, match="DISK_FULL"):
        outcomes([1, raising(OSError(28, "no space"))], tmp_path)
    assert [answer.value for answer in outcomes([1, 2], tmp_path)] == [1, 2]


@pytest.mark.parametrize(
    ("work", "limits", "words"),
    [
        (die, PATIENT, "crashed"),
        (lambda: os._exit(3), PATIENT, "crashed"),
        (lambda: time.sleep(60), Limits(seconds=0.3, seconds_per_file=0.0), "too long"),
        (hog, Limits(seconds=60, bytes=2**29), "memory"),
    ],
)
def test_a_crash_a_hang_and_a_hog_cost_one_item(tmp_path, work, limits, words):
    started = time.monotonic()
    one, two, three = outcomes([1, work, 3], tmp_path, limits)
    assert (one.value, three.value) == (1, 3)
    assert two.error[0] == "READER_FAILED"
    assert words in two.error[1]
    assert time.monotonic() - started < 30


def test_what_decoders_print_is_not_seen(tmp_path, capfd):
    def loud():
        os.write(1, b"Doe^Jane")
        os.write(2, b"Doe^Jane")
        return 1

    assert outcomes([loud], tmp_path)[0].value == 1
    assert capfd.readouterr() == ("", "")


def test_what_is_done_is_not_done_again(tmp_path):
    def note(name):
        return lambda: (tmp_path / name).touch() or name

    outcomes([note("a"), note("b")], tmp_path / "journal")
    (tmp_path / "a").unlink()
    answers = outcomes([note("a"), note("b"), note("c")], tmp_path / "journal")
    assert [answer.value for answer in answers] == ["a", "b", "c"]
    assert {path.name for path in tmp_path.iterdir()} == {"journal", "b", "c"}


def test_a_torn_line_is_done_again(tmp_path):
    outcomes([1, 2, 3], tmp_path, files=200)
    last = sorted(tmp_path.glob("*.jsonl"))[-1]
    last.write_bytes(last.read_bytes()[:-3])
    assert [answer.value for answer in outcomes([1, 2, 30], tmp_path, files=200)] == [1, 2, 30]


def test_stopping_in_between_stops_the_workers(tmp_path):
    items = [Item(f"k{n}", lambda: time.sleep(60), 600) for n in range(3)]
    running = run_items(call, [Item("first", 1, 600), *items], tmp_path, Pool(3, Limits()))
    next(running)
    started = time.monotonic()
    running.close()
    assert time.monotonic() - started < 5


@pytest.fixture
def tree(tmp_path, write_stack):
    for index in range(6):
        heights = [2.0 * k + index for k in range(3)]
        write_stack(tmp_path / "in" / str(index), heights=heights, series=f"1.{index + 1}")
    return tmp_path / "in"


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
    monkeypatch.setattr(volume, "read_plain", lambda headers: None)
    monkeypatch.setattr(run.Limits, "of_this_machine", lambda workers: Limits(2.0, 0.0, 2**32))
    summary = ingest(tree, tmp_path / "store", workers=2)
    assert summary.counts == {("rejected", "READER_FAILED"): 6, ("used", ""): 12}
    assert len(Store.open(tmp_path / "store")) == 4


def test_a_header_that_kills_its_reader_is_refused_alone(tree, tmp_path, monkeypatch):
    from medssl.ingest import look

    read = look.read_slices

    def hostile(path, *rest):
        if path.parent.name == "3":
            die()
        return read(path, *rest)

    monkeypatch.setattr(look, "read_slices", hostile)
    summary = ingest(tree, tmp_path / "store", workers=2)
    assert summary.counts == {("rejected", "READER_FAILED"): 3, ("used", ""): 15}


def test_a_header_that_blows_up_is_refused_alone(tree, tmp_path, monkeypatch):
    """A deflated file (PS3.5 A.5) is inflated whole before its first tag can be read."""
    source = next((tree / "3").iterdir())
    data = pydicom.dcmread(source)
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data.save_as(source, enforce_file_format=True)
    packer = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
    with source.open("r+b") as stream:
        stream.seek(_end_of_meta(source))
        for _ in range(700):
            stream.write(packer.compress(bytes(2**20)))
        stream.write(packer.flush())
    monkeypatch.setattr(run.Limits, "of_this_machine", lambda workers: Limits(20.0, 0.0, 2**29))
    summary = ingest(tree, tmp_path / "store", workers=2)
    assert summary.counts == {("rejected", "READER_FAILED"): 3, ("used", ""): 15}


def _end_of_meta(path):
    """Where the data set starts: Group Length (0002,0000) says (PS3.10 section 7.1)."""
    return 144 + pydicom.filereader.read_file_meta_info(path).FileMetaInformationGroupLength
