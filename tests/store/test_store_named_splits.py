import json

import numpy as np
import pytest

from medssl.errors import MedsslError
from medssl.store import LedgerRow, Outcome, StoreInfo, StoreWriter, VolumeRecord
from medssl.store.make_split import find_leaks, make_split
from medssl.store.named_splits import (
    SplitOptions,
    list_splits,
    read_split,
    splits_of,
    write_split,
)
from medssl.store.splits import assign_splits


def write(path, subjects):
    """A store of one small image per item: subject -> (study, image seed, split, labels)."""
    with StoreWriter(path, StoreInfo()) as writer:
        for i, (subject, study, seed, split, labels) in enumerate(subjects):
            ids = (f"vol-{i:03d}", subject, study, f"ser-{i}")
            image = np.random.default_rng(seed).random((1, 12, 12))
            writer.add_volume(VolumeRecord(*ids, "CR", split, labels), image, None)
        rows = [LedgerRow(str(i), Outcome.USED) for i in range(len(subjects))]
        return writer.finish(rows, len(rows))


def plain(count, **changed):
    """Subjects s0, s1, ... that share nothing, two of three in the class "no"."""
    rows = {f"s{i}": [f"t{i}", i, "", {"sick": ["yes", "no", "no"][i % 3]}] for i in range(count)}
    for subject, (place, value) in changed.items():
        rows[subject][place] = value
    return [(subject, *row) for subject, row in rows.items()]


@pytest.fixture
def store(tmp_path):
    return write(tmp_path / "store", plain(30))


def make(store, **options):
    split = make_split(store, SplitOptions(**options))
    write_split(store, split)
    return split


def test_a_split_is_kept_and_read_again(store):
    made = make(store, name="one", stratify="sick", seed=3)
    again = read_split(store, "one")
    assert again.record == made.record
    assert again.table.equals(made.table)
    assert splits_of(store, "one") == made.sides
    assert list_splits(store) == ["one"]
    sick = [row for row in plain(30) if row[4]["sick"] == "yes"]
    assert [made.sides[row[0]] for row in sick].count("test") == 2


def test_it_depends_on_seed_subjects_and_options_alone(tmp_path, store):
    other = write(tmp_path / "other", plain(30)[::-1])
    assert make(store, seed=5).sides == make(other, seed=5).sides
    assert make(store, name="b", seed=6).sides != splits_of(store)


def test_none_is_overwritten(store):
    make(store)
    before = (store.path / "splits" / "default" / "split.json").read_bytes()
    with pytest.raises(MedsslError, match="SPLIT_EXISTS"):
        make_split(store, SplitOptions(seed=1))
    other = make_split(store, SplitOptions(name="x", seed=1))
    other.record.options.__dict__["name"] = "default"
    with pytest.raises(MedsslError, match="SPLIT_EXISTS"):
        write_split(store, other)
    assert (store.path / "splits" / "default" / "split.json").read_bytes() == before
    assert sorted(p.name for p in (store.path / "splits").iterdir()) == [
        "default",
        "thumbnails.npz",
    ]


def test_the_default_is_used_unasked_and_no_other(store):
    by_hash = assign_splits(store.manifest)
    make(store, name="other", seed=1)
    assert splits_of(store) == by_hash
    default = make(store, seed=2)
    assert splits_of(store) == default.sides != by_hash


def test_every_subject_tests_in_one_fold(store):
    make(store, name="cv", folds=5, stratify="sick")
    tests = [
        {s for s, side in splits_of(store, f"cv:{k}").items() if side == "test"} for k in range(5)
    ]
    assert sorted(s for test in tests for s in test) == sorted(f"s{i}" for i in range(30))
    assert {len(test) for test in tests} == {6}


@pytest.mark.parametrize("spec", ["cv", "cv:5", "cv:x", "cv:"])
def test_a_fold_must_be_one_of_the_split(store, spec):
    make(store, name="cv", folds=5)
    with pytest.raises(MedsslError, match="CONFIG_INVALID"):
        splits_of(store, spec)


def test_a_split_without_folds_has_none(store):
    make(store, name="one")
    with pytest.raises(MedsslError, match="CONFIG_INVALID"):
        splits_of(store, "one:0")


def test_an_unknown_or_damaged_split_is_an_error(store):
    make(store, name="one")
    with pytest.raises(MedsslError, match=r"SPLIT_UNKNOWN.*one"):
        splits_of(store, "two")
    (store.path / "splits" / "one" / "subjects.parquet").write_bytes(b"no")
    with pytest.raises(MedsslError, match="SPLIT_INVALID"):
        splits_of(store, "one")


@pytest.mark.parametrize(
    "options",
    [
        {"name": "../x"},
        {"name": ""},
        {"folds": 3, "fractions": {"train": 1.0}},
        {"folds": 31},
        {"fractions": {"train": 0.5, "exam": 0.5}},
        {"fractions": {"train": 0.99, "test": 0.01}},
    ],
)
def test_options_that_cannot_be_are_refused(store, options):
    with pytest.raises(MedsslError, match="CONFIG_INVALID"):
        make_split(store, SplitOptions(**options))


def test_sites_stay_whole(tmp_path):
    rows = [(s, t, i, x, {"site": "nsew"[int(s[1:]) % 4]}) for s, t, i, x, _ in plain(32)]
    store = write(tmp_path / "sites", rows)
    halves = {"train": 0.5, "test": 0.5}
    sides = make(store, by="site", fractions=halves).sides
    assert all(len({sides[f"s{i}"] for i in range(site, 32, 4)}) == 1 for site in range(4))
    assert list(sides.values()).count("test") == 16
    folds = make(store, name="left-out", by="site", folds=4).table
    assert folds.groupby("fold")["subject_id"].agg(len).tolist() == [8, 8, 8, 8]


# --- the guard ----------------------------------------------------------------------------------


def test_one_image_under_two_ids_is_on_one_side_and_said_so(tmp_path):
    twin = {f"s{i}": (1, i - 1) for i in range(1, 30, 2)}  # the image of the subject before
    store = write(tmp_path / "twins", plain(30, **twin))
    made = make(store, near_duplicates=False)
    assert all(made.sides[f"s{i}"] == made.sides[f"s{i + 1}"] for i in range(0, 30, 2))
    written = json.loads((store.path / "splits" / "default" / "split.json").read_text())
    assert [row["kind"] for row in written["findings"]] == ["voxels"] * 15
    assert "not compared" in written["notes"][0]
    assert {f.kind for f in find_leaks(store)[0]} == {"voxels", "thumbnail", "marks"}


def test_a_large_group_is_pointed_out(tmp_path):
    one_study = {f"s{i}": (0, "t0") for i in range(12)}
    store = write(tmp_path / "large", plain(40, **one_study))
    assert "12 subjects are tied into one group" in make(store).record.notes[0]


@pytest.fixture
def stated(tmp_path):
    """s0 (train) and s1 (test) are of one study; s2 is stated nowhere."""
    side = {f"s{i}": (2, "train") for i in range(3, 20)}
    rows = plain(20, **(side | {"s0": (2, "train"), "s1": (2, "test")}))
    rows[1] = (*rows[1][:1], "t0", *rows[1][2:])
    return write(tmp_path / "stated", rows)


def test_stated_splits_that_leak_are_refused_by_split_and_by_verbs(stated):
    for call in (lambda: make_split(stated, SplitOptions()), lambda: splits_of(stated)):
        with pytest.raises(MedsslError, match="SUBJECT_LEAK") as error:
            call()
        assert error.value.exit_code == 6


def test_mending_moves_towards_the_test_side_and_keeps_the_rest(stated):
    made = make(stated, stated="mend")
    assert made.sides["s0"] == made.sides["s1"] == "test"
    assert all(made.sides[f"s{i}"] == "train" for i in range(3, 20))
    assert made.record.notes == ["1 subjects went to the side of their twins"]
    assert splits_of(stated) == made.sides


def test_mending_reaches_over_subjects_that_are_stated_nowhere(tmp_path):
    rows = plain(9, s0=(2, "train"), s2=(2, "test"), s3=(2, "validation"))
    rows = [(s, "t0" if s in ("s0", "s1", "s2") else t, *rest) for s, t, *rest in rows]
    sides = make(write(tmp_path / "chain", rows), stated="mend").sides
    assert [sides[s] for s in ("s0", "s1", "s2", "s3")] == ["test", "test", "test", "validation"]


def test_a_full_disk_is_said(store, monkeypatch):
    made = make_split(store, SplitOptions(near_duplicates=False))

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pandas.DataFrame.to_parquet", full)
    with pytest.raises(MedsslError, match="DISK_FULL"):
        write_split(store, made)
    assert list_splits(store) == []


def test_stated_splits_are_ignored_on_request_only(stated):
    with pytest.raises(MedsslError, match="SPLIT_STATED"):
        make_split(stated, SplitOptions(folds=4))
    made = make(stated, folds=4, stated="ignore", name="cv")
    assert made.sides["s0"] == made.sides["s1"]
    assert {f"fold {k}" for k in range(4)} == set(made.sides.values())


def test_new_subjects_make_a_split_outdated_and_keep_places_them(tmp_path, store):
    old = make(store, name="v1")
    grown = write(tmp_path / "grown", plain(40))
    (store.path / "splits").rename(grown.path / "splits")
    with pytest.raises(MedsslError, match=r"SPLIT_OUTDATED.*10 subjects"):
        splits_of(grown, "v1")
    new = make(grown, name="v2", keep="v1").sides
    assert {s: new[s] for s in old.sides} == old.sides
    assert list(new.values()).count("test") == 8


def test_a_named_split_that_came_to_leak_is_refused(tmp_path, store):
    old = make(store, name="v1").sides
    first, second = (next(s for s in old if old[s] == side) for side in ("train", "test"))
    seed = int(second[1:])
    changed = write(tmp_path / "changed", plain(30, **{first: (1, seed)}))
    (store.path / "splits").rename(changed.path / "splits")
    with pytest.raises(MedsslError, match="SUBJECT_LEAK"):
        splits_of(changed, "v1")


def test_a_store_that_cannot_be_written_is_checked_all_the_same(store, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    assert find_leaks(store) == ([], [])
    assert not (store.path / "splits").exists()


def test_a_hundred_thousand_volumes_split_in_seconds():
    import time

    import pandas as pd

    from medssl.store.leakage import exact_findings, tie
    from medssl.store.splits import split_subjects
    from medssl.store.strata import strata

    n = 100_000
    table = pd.DataFrame({"subject_id": [f"sub-{i // 2:06d}" for i in range(n)]})
    for column in ("volume_id", "series_id", "sha256"):
        table[column] = [f"{column}-{i}" for i in range(n)]
    table["study_id"] = [f"stu-{i // 2}" for i in range(n)]
    table["label:sick"] = [i % 7 for i in range(n)]
    started = time.process_time()
    groups = tie(table["subject_id"], [f.subjects for f in exact_findings(table)])
    split_subjects(groups, {"train": 0.8, "test": 0.2}, groups=groups, strata=strata(table, "sick"))
    assert time.process_time() - started < 15  # about 3 s; the machine may be busy
