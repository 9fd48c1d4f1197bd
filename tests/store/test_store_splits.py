from collections import Counter

import numpy as np
import pandas as pd
import pytest

from medssl.errors import MedsslError
from medssl.store.splits import (
    _cut,
    assign_splits,
    balance_groups,
    choose_subjects,
    fold_roles,
    split_subjects,
)

SUBJECTS = [f"s{i}" for i in range(100)]
THIRDS = {"train": 0.7, "validation": 0.1, "test": 0.2}


def test_split_is_by_hash_and_of_the_right_size():
    split = split_subjects(SUBJECTS, THIRDS, seed=1)
    assert {name: list(split.values()).count(name) for name in THIRDS} == {
        "train": 70, "validation": 10, "test": 20,
    }  # fmt: skip
    assert split == split_subjects(SUBJECTS[::-1] + SUBJECTS[:5], THIRDS, seed=1)
    assert split != split_subjects(SUBJECTS, THIRDS, seed=2)


@pytest.mark.parametrize("fractions", [{"train": 0.5}, {"train": 1.2, "test": -0.2}])
def test_fractions_add_up_to_1(fractions):
    with pytest.raises(MedsslError, match="CONFIG_INVALID"):
        split_subjects(SUBJECTS, fractions)
    with pytest.raises(MedsslError, match="CONFIG_INVALID"):
        balance_groups(SUBJECTS, fractions, groups={})


def test_a_subject_more_moves_at_most_one_per_boundary():
    for extra in range(30):
        before = split_subjects(SUBJECTS, THIRDS)
        after = split_subjects([*SUBJECTS, f"new{extra}"], THIRDS)
        assert sum(before[s] != after[s] for s in SUBJECTS) <= 2


def test_groups_are_never_separated():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        groups = {s: f"g{rng.integers(40)}" for s in SUBJECTS}
        split = split_subjects(SUBJECTS, THIRDS, seed, groups=groups)
        assert all(len({split[s] for s in SUBJECTS if groups[s] == g}) < 2 for g in groups.values())
        assert set(split) == set(SUBJECTS)
        # a group goes where its middle lies, so no side is off by more than half a group and one
        largest = max(Counter(groups.values()).values())
        for name, share in THIRDS.items():
            assert abs(list(split.values()).count(name) - 100 * share) <= largest + 1


def test_a_group_goes_where_its_middle_lies():
    units = [["a"], ["b", "c", "d"], ["e"]]
    assert _cut(units, [2, 5], ["x", "y"]) == {"a": "x", "b": "y", "c": "y", "d": "y", "e": "y"}
    assert _cut(units, [3, 5], ["x", "y"]) == {"a": "x", "b": "x", "c": "x", "d": "x", "e": "y"}


def test_every_stratum_is_divided_by_the_fractions():
    strata = {s: "ab"[i % 10 == 0] for i, s in enumerate(SUBJECTS)}  # 90 a, 10 b
    split = split_subjects(SUBJECTS, THIRDS, strata=strata)
    assert Counter((strata[s], split[s]) for s in SUBJECTS) == {
        ("a", "train"): 63, ("a", "validation"): 9, ("a", "test"): 18,
        ("b", "train"): 7, ("b", "validation"): 1, ("b", "test"): 2,
    }  # fmt: skip


def test_many_strata_of_one_still_give_the_fractions_over_all():
    split = split_subjects(SUBJECTS, THIRDS, strata={s: s for s in SUBJECTS})
    assert Counter(split.values()) == {"train": 70, "validation": 10, "test": 20}


def test_folds_are_as_even_over_classes_as_scikit_learns():
    from sklearn.model_selection import StratifiedGroupKFold

    def unevenness(fold_of, values):
        table = pd.crosstab(pd.Series(fold_of), pd.Series(values))
        return float((table - table.mean()).abs().to_numpy().max())

    for seed in range(5):
        rng = np.random.default_rng(seed)
        groups = np.sort(rng.integers(0, 60, 300))
        of_group = rng.choice(["x", "y", "z"], 60, p=[0.7, 0.2, 0.1])
        values = of_group[groups]
        ids = [f"s{i}" for i in range(300)]
        fractions = {str(k): 0.2 for k in range(5)}
        in_group = {s: str(g) for s, g in zip(ids, groups, strict=True)}
        strata = dict(zip(ids, values, strict=True))
        ours = balance_groups(ids, fractions, groups=in_group, strata=strata)
        theirs = np.zeros(300)
        peer = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
        for k, (_, test) in enumerate(peer.split(ids, values, groups)):
            theirs[test] = k
        assert all(len({ours[s] for s in ids if in_group[s] == g}) == 1 for g in in_group.values())
        assert unevenness([ours[s] for s in ids], values) <= unevenness(theirs, values) + 1


def test_kept_subjects_stay_and_new_ones_fill_up():
    kept = split_subjects(SUBJECTS, THIRDS)
    new = [f"n{i}" for i in range(100)]
    split = balance_groups([*SUBJECTS, *new], THIRDS, groups={}, kept=kept)
    assert {s: split[s] for s in SUBJECTS} == kept
    assert Counter(split.values()) == {"train": 140, "validation": 20, "test": 40}


def test_a_group_goes_with_its_kept_member_and_two_kept_apart_are_refused():
    groups = {"s1": "g", "new": "g"}
    split = balance_groups(["s1", "new"], THIRDS, groups=groups, kept={"s1": "test"})
    assert split == {"s1": "test", "new": "test"}
    with pytest.raises(MedsslError, match="SUBJECT_LEAK"):
        balance_groups(
            ["s1", "s2"],
            THIRDS,
            groups={"s1": "g", "s2": "g"},
            kept={"s1": "test", "s2": "train"},
        )


def test_every_subject_tests_once_over_the_folds():
    fold_of = {s: i % 4 for i, s in enumerate(SUBJECTS)}
    roles = [fold_roles(fold_of, 4, fold) for fold in range(4)]
    for subject in SUBJECTS:
        assert sorted(role[subject] for role in roles) == ["test", "train", "train", "validation"]
    two = fold_roles({"a": 0, "b": 1}, 2, 1)
    assert two == {"a": "train", "b": "test"}


def test_chosen_subjects_are_nested():
    assert set(choose_subjects(SUBJECTS, 3, 0)) < set(choose_subjects(SUBJECTS, 9, 0))
    with pytest.raises(MedsslError, match="LABELS_TOO_FEW"):
        choose_subjects(SUBJECTS, 101, 0)


def manifest(*pairs):
    return pd.DataFrame(pairs, columns=["subject_id", "split"])


def test_a_manifest_that_states_splits_is_followed_and_the_rest_trains():
    table = manifest(("a", "test"), ("b", ""), ("c", "validation"), ("a", ""))
    assert assign_splits(table) == {"a": "test", "b": "train", "c": "validation"}


def test_one_subject_in_two_splits_is_a_leak():
    with pytest.raises(MedsslError, match="SUBJECT_LEAK"):
        assign_splits(manifest(("a", "test"), ("a", "train")))


def test_without_splits_every_verb_gets_the_same_hash_split():
    table = manifest(*((s, "") for s in SUBJECTS))
    assert assign_splits(table) == split_subjects(SUBJECTS, THIRDS)
