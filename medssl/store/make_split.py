"""Making a named split: the leakage guard first, then subjects to sides, groups kept together."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import pandas as pd

from medssl.errors import MedsslError
from medssl.store.leakage import Finding, exact_findings, refuse_separated, suspicions, tie
from medssl.store.named_splits import (
    FOLDER,
    NAME,
    NamedSplit,
    SplitOptions,
    SplitRecord,
    read_split,
    refuse_taken,
)
from medssl.store.reader import Store
from medssl.store.splits import (
    DEFAULT_FRACTIONS,
    balance_groups,
    split_subjects,
    stated_splits,
)
from medssl.store.strata import ORDER, same_site, strata
from medssl.store.thumbnails import prints_of

LARGE_GROUP = 10  # more ids of one person than this are hardly true


def find_leaks(store: Store, near_duplicates: bool = True) -> tuple[list[Finding], list[str]]:
    """Everything the leakage guard finds in a store, and notes for the user.

    Args:
        store: the store.
        near_duplicates: look at the images too, which reads every volume once.
    """
    found, notes = exact_findings(store.manifest), []
    if near_duplicates:
        writable = os.access(store.path, os.W_OK)
        cache = store.path / FOLDER / "thumbnails.npz" if writable else None
        prints = prints_of(store, cache)
        suspected, crowded = suspicions(store.manifest, prints)
        found += suspected
        if crowded:
            notes.append(
                f"{crowded} volumes look like those of more than five other subjects; "
                "this ties nobody"
            )
    else:
        notes.append("The images were not compared: only ids and equal voxels were")
    return found, notes


def make_split(store: Store, options: SplitOptions) -> NamedSplit:
    """Divide a store's subjects; nothing is written.

    Raises:
        MedsslError: SPLIT_EXISTS, SPLIT_STATED, SPLIT_COLUMN_MISSING, CONFIG_INVALID,
            LABEL_MISSING, and SUBJECT_LEAK where what belongs together is kept or stated apart.
    """
    fractions = _fractions(options)
    refuse_taken(store, options.name)
    manifest = store.manifest
    kept = _kept(store, options)
    findings, notes = find_leaks(store, options.near_duplicates)
    pairs = [finding.subjects for finding in findings]
    groups = tie(manifest["subject_id"], pairs)
    if options.stated == "mend":
        kept, moved = _mend(kept, groups)
        notes += [f"{moved} subjects went to the side of their twins"] if moved else []
    refuse_separated([f for f in findings if set(f.subjects) <= set(kept)], kept)
    largest = max(Counter(groups.values()).values())
    if largest > LARGE_GROUP:
        notes.append(f"{largest} subjects are tied into one group; look at its pairs")
    if options.by is not None:
        groups = tie(groups, pairs + same_site(manifest, options.by))
    strata_of = strata(manifest, options.stratify) if options.stratify else None
    if kept or options.by is not None:
        sides = balance_groups(
            groups, fractions, options.seed, groups=groups, strata=strata_of, kept=kept
        )
    else:
        sides = split_subjects(groups, fractions, options.seed, groups=groups, strata=strata_of)
    empty = [name for name in fractions if fractions[name] and name not in sides.values()]
    if empty and not kept:
        raise MedsslError(
            "CONFIG_INVALID",
            f"{len(set(groups.values()))} groups of subjects leave {empty[0]} empty",
            where="--folds" if options.folds else "--fractions",
            fix="Ask for fewer folds or other fractions.",
        )
    record = SplitRecord(
        options=options,
        data_fingerprint=store.fingerprint(),
        subjects=len(sides),
        findings=[describe_finding(finding) for finding in findings],
        notes=notes,
    )
    rows = [(s, groups[s], int(v) if options.folds else v) for s, v in sorted(sides.items())]
    columns = ["subject_id", "group", "fold" if options.folds else "split"]
    return NamedSplit(record, pd.DataFrame(rows, columns=columns))


def describe_finding(finding: Finding) -> dict[str, Any]:
    """For JSON and tables."""
    return {
        "kind": finding.kind,
        "evidence": "exact" if finding.exact else "suspected",
        "subjects": list(finding.subjects),
        "volumes": list(finding.volumes),
        "score": finding.score,
    }


def _fractions(options: SplitOptions) -> dict[str, float]:
    if NAME.fullmatch(options.name) is None:
        raise MedsslError(
            "CONFIG_INVALID", "A split's name is letters, digits, - and _", where="--name"
        )
    if options.folds is not None:
        if options.fractions is not None or options.keep is not None:
            raise MedsslError(
                "CONFIG_INVALID", "Folds go with neither --fractions nor --keep", where="--folds"
            )
        return {str(fold): 1 / options.folds for fold in range(options.folds)}
    fractions = options.fractions or DEFAULT_FRACTIONS
    unknown = sorted(set(fractions) - set(ORDER))
    if unknown:
        raise MedsslError(
            "CONFIG_INVALID",
            f"There is no split {unknown[0]}",
            fix=f"There are: {', '.join(ORDER)}.",
        )
    return dict(fractions)


def _mend(kept: dict[str, str], groups: dict[str, str]) -> tuple[dict[str, str], int]:
    """Move what is kept of every group to its side furthest from training; and how many moved."""
    side: dict[str, str] = {}
    for subject, name in kept.items():
        group = groups[subject]
        side[group] = max(side.get(group, ORDER[0]), name, key=ORDER.index)
    mended = {subject: side[groups[subject]] for subject in kept}
    return mended, sum(mended[subject] != kept[subject] for subject in kept)


def _kept(store: Store, options: SplitOptions) -> dict[str, str]:
    """Subject -> split of those that an older split, or the tables, have placed."""
    stated = {} if options.stated == "ignore" else stated_splits(store.manifest)
    if stated and options.folds is not None:
        raise MedsslError(
            "SPLIT_STATED",
            "The tables of the data state splits, which folds would contradict",
            where="--folds",
            fix="State --stated ignore to divide all subjects anew.",
        )
    if options.keep is None:
        return stated
    here = set(store.manifest["subject_id"])
    old = {s: side for s, side in read_split(store, options.keep).roles(None).items() if s in here}
    differing = [subject for subject, side in old.items() if stated.get(subject, side) != side]
    if differing:
        raise MedsslError(
            "SPLIT_STATED",
            f"{len(differing)} subjects of the split to keep are stated elsewhere by the tables",
            where=differing[0],
            fix="State --stated ignore to follow the split.",
        )
    return stated | old
