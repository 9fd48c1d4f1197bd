import pandas as pd
import pytest

from medssl.errors import MedsslError
from medssl.store.splits import assign_splits, choose_subjects, split_subjects

SUBJECTS = [f"sub-{i}" for i in range(100)]
THIRDS = {"train": 0.7, "validation": 0.1, "test": 0.2}


def test_sizes_and_independence_of_order():
    split = split_subjects(SUBJECTS, THIRDS, seed=1)
    assert pd.Series(split).value_counts().to_dict() == {"train": 70, "test": 20, "validation": 10}
    assert split == split_subjects(SUBJECTS[::-1] + SUBJECTS[:5], THIRDS, seed=1)
    assert split != split_subjects(SUBJECTS, THIRDS, seed=2)


def test_fractions_must_add_up():
    with pytest.raises(MedsslError, match="CONFIG_INVALID"):
        split_subjects(SUBJECTS, {"train": 0.5})


def test_chosen_subjects_are_nested():
    assert set(choose_subjects(SUBJECTS, 3, 0)) < set(choose_subjects(SUBJECTS, 9, 0))
    with pytest.raises(MedsslError, match="LABELS_TOO_FEW"):
        choose_subjects(SUBJECTS, 101, 0)


def manifest(*rows):
    return pd.DataFrame(rows, columns=["subject_id", "split"])


def test_stated_splits_win_and_the_rest_trains():
    table = manifest(("a", "test"), ("a", "test"), ("b", ""), ("c", "validation"))
    assert assign_splits(table) == {"a": "test", "b": "train", "c": "validation"}


def test_a_subject_in_two_splits_is_a_leak():
    with pytest.raises(MedsslError, match="SUBJECT_LEAK"):
        assign_splits(manifest(("a", "test"), ("a", "train")))


def test_without_stated_splits_the_hash_decides():
    table = manifest(*[(subject, "") for subject in SUBJECTS])
    assert assign_splits(table) == split_subjects(SUBJECTS, THIRDS)
