"""Splits by subject: never by file, never by volume."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from medssl.errors import MedsslError

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_FRACTIONS: dict[str, float] = {"train": 0.7, "validation": 0.1, "test": 0.2}


def split_subjects(
    subject_ids: Iterable[str], fractions: Mapping[str, float], seed: int = 0
) -> dict[str, str]:
    """Assign every subject to one split.

    The order is that of a hash of (seed, subject), so it does not depend on the order of the
    input, and a split keeps its subjects when the seed is kept.

    Args:
        subject_ids: subjects, repeats allowed.
        fractions: split name -> fraction; they add up to 1.
        seed: another seed, another split.

    Raises:
        MedsslError: CONFIG_INVALID where the fractions do not add up to 1.
    """
    if abs(sum(fractions.values()) - 1.0) > 1e-6:
        raise MedsslError("CONFIG_INVALID", "The split fractions must add up to 1")
    ranked = sorted(set(subject_ids), key=lambda subject: _rank(seed, subject))
    names, result, end = list(fractions), {}, 0.0
    bounds = []
    for name in names:
        end += fractions[name]
        bounds.append(round(end * len(ranked)))
    for place, subject in enumerate(ranked):
        which = next(i for i, bound in enumerate(bounds) if place < bound)
        result[subject] = names[which]
    return result


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
    """The split of every subject of a store: that of the manifest, else one by hash.

    Every verb asks here, so what pretraining holds out is what fine-tuning and evaluation test on.
    Where the manifest states splits, subjects without one train.

    Args:
        manifest: with columns subject_id and split.
        fractions: split name -> fraction, where the manifest states none.
        seed: of the hash.

    Raises:
        MedsslError: SUBJECT_LEAK where the manifest puts one subject in two splits.
    """
    stated = manifest[manifest["split"] != ""]
    if stated.empty:
        return split_subjects(manifest["subject_id"], fractions or DEFAULT_FRACTIONS, seed)
    pairs = stated[["subject_id", "split"]].drop_duplicates()
    if pairs["subject_id"].duplicated().any():
        raise MedsslError(
            "SUBJECT_LEAK",
            "The manifest puts one subject in two splits",
            where=str(pairs[pairs["subject_id"].duplicated()]["subject_id"].iloc[0]),
            fix="State one split per subject in the subjects table.",
        )
    result = dict.fromkeys(manifest["subject_id"], "train")
    result.update(zip(pairs["subject_id"], pairs["split"], strict=True))
    return result
