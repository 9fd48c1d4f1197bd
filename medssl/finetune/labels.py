"""Which volumes carry the label, and which of them train, validate and test: by subject."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from medssl.bundle import Bundle
from medssl.errors import MedsslError
from medssl.finetune.config import FinetuneConfig
from medssl.store import Store
from medssl.store.named_splits import splits_of
from medssl.store.splits import choose_subjects


@dataclass(frozen=True)
class LabelledVolumes:
    """Volume ids by role. ``train`` holds only the labelled subjects that were asked for."""

    train: list[str]
    validation: list[str]
    test: list[str]
    train_subjects: list[str]


def labelled_volumes(
    store: Store,
    volume_ids: list[str],
    labels: int | float | None,
    config: FinetuneConfig,
    split: Mapping[str, str] | None = None,
    classes: Mapping[str, int] | None = None,
) -> LabelledVolumes:
    """Split labelled volumes by subject and keep the training subjects asked for.

    Args:
        store: the store.
        volume_ids: those with the label.
        labels: number (int) or share (float in (0, 1]) of labelled training subjects; None all.
        config: for the seeds and fractions.
        split: subject -> split, to use instead of the store's.
        classes: class of a volume; the chosen subjects then cover every class.

    Raises:
        MedsslError: LABELS_TOO_FEW.
    """
    table = store.manifest.set_index("volume_id").loc[volume_ids]
    named, fractions = (
        (config.split, None) if isinstance(config.split, str) else (None, config.split)
    )
    where = split or splits_of(store, named, fractions, config.split_seed)
    subject_of = table["subject_id"].to_dict()
    role = {v: where.get(subject, "") for v, subject in subject_of.items()}
    pool = sorted({subject_of[v] for v in volume_ids if role[v] == "train"})
    if not pool:
        raise MedsslError("LABELS_TOO_FEW", "No labelled subject is in the training split")
    count = len(pool)
    if isinstance(labels, float):
        if not 0 < labels <= 1:
            raise MedsslError("CONFIG_INVALID", "A share lies in (0, 1]", where="--labels")
        count = max(1, math.floor(labels * len(pool) + 0.5))
    elif labels is not None:
        count = labels
    if classes is None:
        chosen = choose_subjects(pool, count, config.label_seed)
    else:
        in_pool = [v for v in volume_ids if role[v] == "train"]
        first = {subject_of[v]: classes[v] for v in in_pool}
        chosen = _choose_by_class(first, count, config.label_seed)
    return LabelledVolumes(
        train=[v for v in volume_ids if subject_of[v] in set(chosen) and role[v] == "train"],
        validation=[v for v in volume_ids if role[v] == "validation"],
        test=[v for v in volume_ids if role[v] == "test"],
        train_subjects=chosen,
    )


def _choose_by_class(class_of: Mapping[str, int], count: int, seed: int) -> list[str]:
    """Subjects in proportion to their class, at least one of each, nested as ``count`` grows."""
    groups: dict[int, list[str]] = {}
    for subject, value in class_of.items():
        groups.setdefault(value, []).append(subject)
    if count < len(groups) or count > len(class_of):
        raise MedsslError(
            "LABELS_TOO_FEW",
            f"{count} labelled subjects cannot cover {len(groups)} classes of {len(class_of)}",
            where="--labels",
        )
    ranked = {c: choose_subjects(g, len(g), seed) for c, g in groups.items()}
    # The next subject comes from the class that is furthest behind its share.
    taken = dict.fromkeys(groups, 1)
    while sum(taken.values()) < count:
        open_groups = [c for c in groups if taken[c] < len(groups[c])]
        behind = min(open_groups, key=lambda c: ((taken[c] + 0.5) / len(groups[c]), c))
        taken[behind] += 1
    return [subject for c in sorted(ranked) for subject in ranked[c][: taken[c]]]


def known_classes(
    annotated: Mapping[str, frozenset[int]], volume_ids: Sequence[str], names: Mapping[int, str]
) -> tuple[list[list[bool]], dict[str, int]]:
    """Which classes the training volumes were annotated for.

    Args:
        annotated: label values by volume.
        volume_ids: of the training volumes.
        names: of all label values.

    Returns:
        the different answers, each a bool for every class from 0 to the last value, and which of
        them is a volume's.

    Raises:
        MedsslError: LABELS_TOO_FEW where a structure was looked for in none.
    """
    sets = sorted({annotated[v] for v in volume_ids}, key=sorted)
    never = sorted(set(names) - frozenset().union(*sets))
    if never:
        raise MedsslError(
            "LABELS_TOO_FEW",
            f"No training volume was annotated for {len(never)} of {len(names)} structures",
            where=names[never[0]],
            fix="Use more labelled subjects, or ingest the structures you need with --structure.",
        )
    classes = range(max(names) + 1)
    known = [[c == 0 or c not in names or c in one for c in classes] for one in sets]
    return known, {v: sets.index(annotated[v]) for v in volume_ids}


def guard_leak(bundle: Bundle | None, store: Store, test: list[str]) -> None:
    """Refuse to test on subjects the bundle was trained on.

    Raises:
        MedsslError: SUBJECT_LEAK.
    """
    if bundle is None:
        return
    seen = {store[v].subject_id for v in test if bundle.spec.has_seen(store[v].subject_id)}
    if seen:
        raise MedsslError(
            "SUBJECT_LEAK",
            f"{len(seen)} test subjects were seen in pretraining",
            where=sorted(seen)[0],
            fix="Pretrain with these subjects held out (the default of `medssl pretrain`).",
        )
