"""Adding to a store reads what is new, changes nothing that is there, and survives being killed."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medssl.errors import Exit, MedsslError
from medssl.ingest import survey
from medssl.ingest.run import ingest
from medssl.store import Store


@pytest.fixture
def tree(tmp_path, write_stack):
    root = tmp_path / "in"
    for index in range(3):
        write_series(write_stack, root, index)
    write_stack(root / "gap", heights=[0, 2, 6, 8], series="1.99")
    (root / "notes.txt").write_text("Doe^Jane")
    return root


def write_series(write_stack, root, index):
    heights = [2.0 * k + index for k in range(3)]
    return write_stack(
        root / str(index), heights=heights, series=f"1.{index + 1}", PatientID=f"P{index}"
    )


@pytest.fixture
def store(tree, tmp_path):
    ingest(tree, tmp_path / "store", key_file=tmp_path / "site.key")
    return tmp_path / "store"


@pytest.fixture
def looked(monkeypatch):
    """The files that are looked into, by a child's note in a file."""
    look = survey.look

    def noting(root):
        log = root.parent / "looked"
        log.unlink(missing_ok=True)

        def noted(path, folder, allow=()):
            with log.open("a") as stream:
                stream.write(f"{path.relative_to(root)}\n")
            return look(path, folder, allow)

        monkeypatch.setattr(survey, "look", noted)
        return lambda: sorted(log.read_text().split()) if log.exists() else []

    return noting


def add(tree, store, **options):
    return ingest(tree, store, key_file=store.parent / "site.key", add=True, **options)


def tables(store):
    opened = Store.open(store)
    return opened.manifest.drop(columns=["volume_id"]), opened.ledger


def test_nothing_new_reads_nothing_and_changes_nothing(tree, store, looked):
    names = looked(tree)
    before = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    summary = add(tree, store)
    assert names() == []
    assert (summary.found, summary.known, summary.added, summary.volumes) == (14, 14, 0, 3)
    assert summary.exit_code is Exit.DONE
    assert {path: path.read_bytes() for path in store.rglob("*") if path.is_file()} == before


def test_a_new_series_alone_is_read(tree, store, looked, write_stack):
    names = looked(tree)
    old = Store.open(store).manifest.set_index("volume_id")
    new = [str(path.relative_to(tree)) for path in write_series(write_stack, tree, 7)]
    summary = add(tree, store)
    assert names() == sorted(new)
    assert (summary.found, summary.known, summary.added, summary.volumes) == (17, 14, 1, 4)
    opened = Store.open(store)
    for volume_id in opened:
        opened[volume_id].verify()
    assert opened.manifest.set_index("volume_id").loc[old.index].equals(old)
    assert opened.ledger["batch"].value_counts().to_dict() == {1: 14, 2: 3}
    assert opened.info.added_by[0]["batch"] == 2


def test_in_steps_it_has_the_volumes_of_one_step(tree, store, tmp_path, write_stack):
    for index in (7, 8):
        write_series(write_stack, tree, index)
        add(tree, store)
    ingest(tree, tmp_path / "whole", key_file=tmp_path / "site.key")
    stepwise, whole = tables(store), tables(tmp_path / "whole")
    assert stepwise[0].equals(whole[0])
    columns = ["path", "outcome", "code", "volume_id"]
    pairs = [
        table[1][columns].sort_values("path", ignore_index=True) for table in (stepwise, whole)
    ]
    assert pairs[0].equals(pairs[1])


def test_another_folder_is_added_and_the_same_study_in_it_is_a_duplicate(
    tree, store, tmp_path, write_stack
):
    write_series(write_stack, tmp_path / "in2" / "new", 5)
    shutil.copytree(tree / "1", tmp_path / "in2" / "copy")
    summary = add(tmp_path / "in2", store)
    assert summary.counts == {("duplicate", "DUPLICATE"): 3, ("used", ""): 3}
    assert (summary.known, summary.volumes) == (0, 4)


def test_the_missing_slice_that_comes_later_makes_the_series_whole(tree, store, make_slice):
    data = make_slice(np.full((3, 4), 9, np.uint16), position=(0.0, 0.0, 4.0), series="1.99")
    data.save_as(tree / "gap" / "late", enforce_file_format=True)
    summary = add(tree, store)
    assert summary.counts == {("used", ""): 5}
    assert (summary.known, summary.volumes) == (10, 4)


def test_slices_that_come_after_their_volume_are_refused(tree, store, make_slice):
    pixels = np.arange(12, dtype=np.uint16).reshape(3, 4)
    data = make_slice(pixels, position=(0.0, 0.0, 6.0), series="1.1", PatientID="P0")
    data.save_as(tree / "0" / "late", enforce_file_format=True)
    before = tables(store)[0]
    summary = add(tree, store)
    assert summary.counts == {("rejected", "DUPLICATE_CONFLICT"): 1}
    assert tables(store)[0].equals(before)


def test_a_file_that_changed_is_read_again(tree, store, looked):
    names = looked(tree)
    (tree / "notes.txt").write_text("other notes")
    summary = add(tree, store)
    assert names() == ["notes.txt"]
    assert summary.counts == {("ignored", "NOT_AN_IMAGE"): 1}


def test_a_table_read_before_speaks_for_new_files(tmp_path, store):
    root = tmp_path / "pictures"
    root.mkdir()
    for name, value in (("a", 1), ("b", 2)):
        Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4) * value).save(
            root / f"{name}.png"
        )
        if name == "a":
            (root / "subjects.csv").write_text("file,subject\na.png,S1\nb.png,S1\n")
            add(root, store)
    summary = add(root, store)
    assert (summary.added, summary.known, summary.subjects) == (1, 2, 4)


def test_without_a_store_one_is_made(tree, tmp_path):
    summary = ingest(tree, tmp_path / "fresh", add=True)
    assert (summary.volumes, summary.added, summary.known) == (3, 3, 0)


def test_another_key_and_a_missing_private_ledger_are_refused(tree, store, tmp_path):
    with pytest.raises(MedsslError, match="KEY_INVALID"):
        ingest(tree, store, key_file=tmp_path / "other.key", add=True)
    shutil.rmtree(tmp_path / "store.private")
    with pytest.raises(MedsslError, match="PRIVATE_MISSING"):
        add(tree, store)


@pytest.mark.parametrize("table", ["ledger.parquet", "store.json", "manifest.parquet"])
def test_killed_while_the_tables_are_replaced_it_ends_as_if_not(
    tree, store, tmp_path, write_stack, table
):
    write_series(write_stack, tree, 7)
    shutil.copytree(store, tmp_path / "other")
    shutil.copytree(tmp_path / "store.private", tmp_path / "other.private")
    add(tree, tmp_path / "other")
    child = os.fork()
    if child == 0:
        replace = Path.replace

        def stopping(self, target):
            if target == store / table:
                os.kill(os.getpid(), signal.SIGKILL)
            return replace(self, target)

        Path.replace = stopping
        add(tree, store)
        os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    time.sleep(0.1)
    summary = add(tree, store)
    assert summary.added == 1
    for name in ("ledger.parquet", "store.json", "manifest.parquet"):
        assert (store / name).read_bytes() == (tmp_path / "other" / name).read_bytes()
    assert len(list((tmp_path / "store.private").glob("*.csv"))) == 2
