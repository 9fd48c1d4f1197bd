"""An ingest that was killed goes on where it was, and ends with the same store."""

from __future__ import annotations

import fcntl
import json
import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from stores import bytes_of

from medssl.errors import MedsslError
from medssl.ingest import make, steps, unfinished
from medssl.ingest.journal import Journal
from medssl.ingest.run import ingest


@pytest.fixture
def tree(tmp_path, write_stack):
    root = tmp_path / "in"
    for index in range(8):
        heights = [2.0 * k + index for k in range(6)]
        write_stack(root / str(index), heights=heights, series=f"1.{index + 1}")
    write_stack(root / "gap", heights=[0, 2, 6, 8], series="1.99")
    np.savez(root / "x.npz", train_images=np.arange(48, dtype=np.uint8).reshape(3, 4, 4))
    (root / "notes.txt").write_text("Doe^Jane")
    return root


@pytest.fixture
def whole(tree, tmp_path):
    """The store of an ingest that nobody stopped."""
    ingest(tree, tmp_path / "whole", key_file=tmp_path / "site.key", workers=2)
    return tmp_path / "whole"


def start(tree: Path, store: Path, key: Path) -> int:
    """Ingest in a child; its process id."""
    child = os.fork()
    if child == 0:
        try:
            ingest(tree, store, key_file=key, workers=2)
        finally:
            os._exit(0)
    return child


def done(store: Path) -> set[str]:
    work = store.with_name(f".{store.name}.partial")
    folders = [work / name for name in ("headers", "volumes")]
    return {key for folder in folders if folder.exists() for key in Journal(folder).lines}


def check_kills(tree: Path, whole: Path, tmp_path: Path, kills: int) -> None:
    """Kill it at random moments until it is through."""
    key, rng, interrupted = tmp_path / "site.key", random.Random(0), 0
    store = tmp_path / "store"
    for _ in range(kills):
        child = start(tree, store, key)
        time.sleep(rng.uniform(0.0, 0.25))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        interrupted += not store.exists()
        if store.exists():
            assert bytes_of(store) == bytes_of(whole)
            store.rename(tmp_path / f"store-{rng.random()}")
    assert interrupted
    if not store.exists():
        ingest(tree, store, key_file=key, workers=2)
    assert bytes_of(store) == bytes_of(whole)
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_killed_at_random_moments_it_makes_the_same_store(tree, whole, tmp_path):
    check_kills(tree, whole, tmp_path, 6)


@pytest.mark.slow
def test_killed_at_thirty_moments_it_makes_the_same_store(tree, whole, tmp_path):
    check_kills(tree, whole, tmp_path, 30)


def test_nothing_that_was_finished_is_read_again(tree, whole, tmp_path, monkeypatch):
    log = tmp_path / "log"

    def noted(keyed, folder):
        with log.open("a") as stream:
            stream.write(f"{keyed[0]}\n")
        time.sleep(0.05)
        return make.make(keyed, folder)

    monkeypatch.setattr(steps, "make", noted)
    child = start(tree, tmp_path / "store", tmp_path / "site.key")
    until = time.monotonic() + 20
    while len(done(tmp_path / "store")) < 54 + 3 and time.monotonic() < until:
        time.sleep(0.01)  # all 54 headers and some series
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    before = done(tmp_path / "store")
    assert 54 < len(before) < 54 + 9
    log.unlink()
    monkeypatch.setattr("medssl.ingest.survey.look", lambda *_, **__: 1 / 0)
    summary = ingest(tree, tmp_path / "store", key_file=tmp_path / "site.key", workers=2)
    again = set(log.read_text().split())
    assert again
    assert not again & before
    assert bytes_of(tmp_path / "store") == bytes_of(whole)
    assert "interrupted" in summary.notes[0]


def test_other_options_start_anew(tree, tmp_path, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(steps, "plan", stopped)
        with pytest.raises(KeyboardInterrupt):
            ingest(tree, tmp_path / "store")
    work = tmp_path / ".store.partial"
    assert work.stat().st_mode & 0o777 == 0o700
    summary = ingest(tree, tmp_path / "store", allow=["DERIVED"])
    assert not any("interrupted" in note for note in summary.notes)
    assert not work.exists()


def test_a_mistake_of_the_user_leaves_nothing(tree, tmp_path):
    for name in ("a", "b"):
        (tree / name).mkdir()
        (tree / name / "labels.csv").write_text(f"value,name\n1,{name}\n")
    with pytest.raises(MedsslError, match="TABLE_INVALID"):
        ingest(tree, tmp_path / "store")
    assert not (tmp_path / ".store.partial").exists()


def test_a_full_disk_keeps_what_was_done(tree, whole, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(make, "write_volume", full)
        with pytest.raises(MedsslError, match="DISK_FULL"):
            ingest(tree, tmp_path / "store", key_file=tmp_path / "site.key")
    assert not (tmp_path / "store").exists()
    ingest(tree, tmp_path / "store", key_file=tmp_path / "site.key")
    assert bytes_of(tmp_path / "store") == bytes_of(whole)


def test_two_at_once_are_refused(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(unfinished, "_PATIENCE", 0.2)
    (tmp_path / ".store.partial").mkdir()
    with (tmp_path / ".store.partial" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(MedsslError, match="INGEST_RUNNING"):
            ingest(tree, tmp_path / "store")


def test_a_file_that_changed_meanwhile_is_read_again(tree, tmp_path, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(steps, "Loader", stopped)
        with pytest.raises(KeyboardInterrupt):
            ingest(tree, tmp_path / "store")
    changed = next(path for path in sorted((tree / "0").iterdir()))
    changed.write_bytes(changed.read_bytes()[:200])
    summary = ingest(tree, tmp_path / "store")
    assert summary.counts[("rejected", "FILE_UNREADABLE")] == 6
    assert json.loads((tmp_path / "store" / "store.json").read_text())["made_by"]


def test_a_cluster_that_breaks_down_leaves_what_was_done(tree, whole, tmp_path, monkeypatch):
    def broken(*_):
        raise MedsslError("SCHEDULER_UNAVAILABLE", "The cluster gave a batch up")

    with monkeypatch.context() as patch:
        patch.setattr(steps, "plan", broken)
        with pytest.raises(MedsslError, match="SCHEDULER_UNAVAILABLE"):
            ingest(tree, tmp_path / "store", key_file=tmp_path / "site.key")
    summary = ingest(tree, tmp_path / "store", key_file=tmp_path / "site.key")
    assert "interrupted" in summary.notes[0]
    assert bytes_of(tmp_path / "store") == bytes_of(whole)


def test_killed_after_its_store_was_there_it_starts_anew_for_another(
    tree, whole, tmp_path, monkeypatch
):
    """The arrays that the journal tells of went with the store."""
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(unfinished.Unfinished, "__exit__", lambda *_: os._exit(0))
        ingest(tree, tmp_path / "store", key_file=tmp_path / "site.key")
    os.waitpid(child, 0)
    assert (tmp_path / ".store.partial").exists()
    (tmp_path / "store").rename(tmp_path / "elsewhere")
    ingest(tree, tmp_path / "store", key_file=tmp_path / "site.key")
    assert bytes_of(tmp_path / "store") == bytes_of(whole)
