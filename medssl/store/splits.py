"""Splits by subject: never by file, never by volume."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from medssl.errors import MedsslError
from medssl.store.leakage import exact_findings, refuse_separated, tie

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_FRACTIONS: dict[str, float] = {"train": 0.7, "validation": 0.1, "test": 0.2}


def split_subjects(
    subject_ids: Iterable[str],
    fractions: Mapping[str, float],
    seed: int = 0,
    *,
    groups: Mapping[str, str] | None = None,
    strata: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Assign every subject to one split.

    The order is that of a hash of (seed, subject), so it does not depend on the order of the
    input, and a split keeps its subjects when the seed is kept. Without strata, a new subject
    moves at most one old one across each boundary.

    Args:
        subject_ids: subjects, repeats allowed.
        fractions: split name -> fraction; they add up to 1.
        seed: another seed, another split.
        groups: subject -> group; a group is never separated. Without, each is its own.
        strata: subject -> stratum; every stratum is divided by the fractions as well as whole
            numbers allow, and all together no worse. A group has that of its first subject.

    Raises:
        MedsslError: CONFIG_INVALID where the fractions do not add up to 1.
    """
    _check_fractions(fractions)
    strands: dict[str, list[list[str]]] = {}
    for unit in _units(subject_ids, groups or {}, seed):
        strands.setdefault((strata or {}).get(unit[0], ""), []).append(unit)
    if len(strands) == 1:
        (units,) = strands.values()
        return _cut(units, _bounds(fractions, sum(map(len, units))), list(fractions))
    result: dict[str, str] = {}
    short = dict.fromkeys(fractions, 0.0)  # how many subjects each split has got too few of
    for _, units in sorted(strands.items(), key=lambda item: (-len(item[1]), item[0])):
        count = sum(map(len, units))
        wanted = {name: share * count for name, share in fractions.items()}
        quota = {name: math.floor(value + 1e-9) for name, value in wanted.items()}
        short = {name: short[name] + wanted[name] - quota[name] for name in fractions}
        for name in sorted(short, key=lambda n: -short[n])[: count - sum(quota.values())]:
            quota[name] += 1
            short[name] -= 1
        bounds = list(itertools.accumulate(quota.values()))
        result |= _cut(units, bounds, list(fractions))
    return result


def balance_groups(
    subject_ids: Iterable[str],
    fractions: Mapping[str, float],
    seed: int = 0,
    *,
    groups: Mapping[str, str],
    strata: Mapping[str, str] | None = None,
    kept: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """As :func:`split_subjects` for large groups, or where some subjects have their split.

    The largest group comes first (then the hash decides), each to the split that then comes
    closest, in squares, to its share of all subjects and of every stratum.

    Args:
        kept: subject -> split of subjects that stay where they are; a group goes with them.

    Raises:
        MedsslError: CONFIG_INVALID; SUBJECT_LEAK where ``kept`` separates a group.
    """
    _check_fractions(fractions)
    kept, strata, subjects = kept or {}, strata or {}, set(subject_ids)
    total = Counter(strata.get(subject, "") for subject in subjects)
    have = {name: Counter[str]() for name in fractions}
    result: dict[str, str] = {}
    units = _units(subjects, groups, seed)
    units.sort(key=lambda unit: (not any(s in kept for s in unit), -len(unit)))
    for unit in units:
        there = {kept[subject] for subject in unit if subject in kept}
        if len(there) > 1:
            raise MedsslError(
                "SUBJECT_LEAK",
                "Subjects that belong together are kept in two splits",
                where=unit[0],
                fix="See `medssl split STORE --check`; make the split anew, or state one for both.",
            )
        add = Counter(strata.get(subject, "") for subject in unit)
        costs = {n: _cost(add, have[n], total, share) for n, share in fractions.items()}
        name = there.pop() if there else min(costs, key=costs.__getitem__)
        have.setdefault(name, Counter()).update(add)
        result |= dict.fromkeys(unit, name)
    return result


def _cost(add: Counter[str], have: Counter[str], total: Counter[str], share: float) -> float:
    """By how much the squared distance to a split's share grows with ``add``: all, each stratum."""
    size, every, over = add.total(), total.total(), have.total() - share * total.total()
    cost = size * (size + 2 * over) / every**2
    for stratum, n in add.items():
        cost += n * (n + 2 * (have[stratum] - share * total[stratum])) / total[stratum] ** 2
    return cost


def _units(subject_ids: Iterable[str], groups: Mapping[str, str], seed: int) -> list[list[str]]:
    """The groups and their subjects, both in the hash order of the seed."""
    units: dict[str, list[str]] = {}
    for subject in sorted(set(subject_ids), key=lambda s: _rank(seed, s)):
        units.setdefault(groups.get(subject, subject), []).append(subject)
    return list(units.values())


def _bounds(fractions: Mapping[str, float], count: int) -> list[int]:
    """Where each split ends in an order of ``count`` subjects."""
    return [round(end * count) for end in itertools.accumulate(fractions.values())]


def _cut(units: list[list[str]], bounds: list[int], names: list[str]) -> dict[str, str]:
    """Cut an order of units at the bounds; a unit goes where its middle lies."""
    result, place = {}, 0
    for unit in units:
        middle = place + (len(unit) - 1) / 2
        which = next(i for i, bound in enumerate(bounds) if middle < bound)
        result.update(dict.fromkeys(unit, names[which]))
        place += len(unit)
    return result


def _check_fractions(fractions: Mapping[str, float]) -> None:
    if abs(sum(fractions.values()) - 1.0) > 1e-6 or min(fractions.values()) < 0:
        raise MedsslError("CONFIG_INVALID", "The split fractions must add up to 1")


def fold_roles(fold_of: Mapping[str, int], folds: int, fold: int) -> dict[str, str]:
    """The splits of one fold: its subjects test, those of the next validate, the rest trains.

    Of two folds none validates.
    """
    after = (fold + 1) % folds if folds > 2 else -1
    roles = {fold: "test", after: "validation"}
    return {subject: roles.get(number, "train") for subject, number in fold_of.items()}


def choose_subjects(subject_ids: Iterable[str], count: int, seed: int = 0) -> list[str]:
    """The first ``count`` subjects in the hash order of the seed: nested as ``count`` grows.

    Raises:
        MedsslError: LABELS_TOO_FEW where there are not that many.
    """
    ranked = sorted(set(subject_ids), key=lambda subject: _rank(seed, subject))
    if not 0 < count <= len(ranked):
        raise MedsslError(
            "LABELS_TOO_FEW",
            f"{count} labelled subjects were asked for and there are {len(ranked)}",
            fix="Ask for fewer with --labels.",
        )
    return ranked[:count]


def _rank(seed: int, subject: str) -> bytes:
    return hashlib.sha256(f"{seed}:{subject}".encode()).digest()


def assign_splits(
    manifest: pd.DataFrame, fractions: Mapping[str, float] | None = None, seed: int = 0
) -> dict[str, str]:
    """The split of every subject of a manifest: that which it states, else one by hash.

    Where the manifest states splits, subjects without one train. Subjects that share an id or
    voxels (:func:`medssl.store.leakage.exact_findings`) are never separated.

    Args:
        manifest: with columns subject_id and split.
        fractions: split name -> fraction, where the manifest states none.
        seed: of the hash.

    Raises:
        MedsslError: SUBJECT_LEAK where the manifest puts one subject in two splits, or two ids of
            one subject.
    """
    findings = exact_findings(manifest)
    subjects = manifest["subject_id"].unique()
    stated = stated_splits(manifest)
    if not stated:
        groups = tie(subjects, (finding.subjects for finding in findings))
        return split_subjects(subjects, fractions or DEFAULT_FRACTIONS, seed, groups=groups)
    result = dict.fromkeys(subjects, "train") | stated
    refuse_separated(findings, result)
    return result


def stated_splits(manifest: pd.DataFrame) -> dict[str, str]:
    """The splits that tables stated, of the subjects that have one.

    Raises:
        MedsslError: SUBJECT_LEAK where one subject has two.
    """
    stated = manifest[manifest["split"] != ""]
    pairs = stated[["subject_id", "split"]].drop_duplicates()
    if pairs["subject_id"].duplicated().any():
        raise MedsslError(
            "SUBJECT_LEAK",
            "The manifest puts one subject in two splits",
            where=str(pairs[pairs["subject_id"].duplicated()]["subject_id"].iloc[0]),
            fix="State one split per subject in the subjects table.",
        )
    return dict(zip(pairs["subject_id"], pairs["split"], strict=True))
