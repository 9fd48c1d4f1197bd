"""Named splits: made once, kept in ``STORE/splits/NAME``, and used by every verb.

A split is a folder with ``subjects.parquet`` (a row per subject: subject_id, group, and split or
fold) and ``split.json`` (how it was made, and what the leakage guard found). It appears whole or
not at all, and is never overwritten.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import Field, ValidationError

from medssl.config import StrictModel
from medssl.errors import MedsslError
from medssl.store.leakage import exact_findings, refuse_separated
from medssl.store.reader import Store
from medssl.store.splits import assign_splits, fold_roles

FOLDER, DEFAULT = "splits", "default"
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")


class SplitOptions(StrictModel):
    """How a split is made; see ``medssl split --help``."""

    name: str = DEFAULT
    fractions: dict[str, float] | None = None
    folds: int | None = Field(None, ge=2)
    stratify: str | None = None
    by: str | None = None
    seed: int = 0
    keep: str | None = None
    stated: Literal["keep", "mend", "ignore"] = "keep"
    near_duplicates: bool = True


class SplitRecord(StrictModel):
    """``split.json``: the options, the store it was made of, and what the leakage guard found."""

    format_version: int = 1
    options: SplitOptions
    data_fingerprint: str
    subjects: int
    findings: list[dict[str, Any]]
    notes: list[str] = Field(default_factory=list)


class NamedSplit:
    """A split on disk, or one just made.

    Attributes:
        record: how it was made.
        table: subject_id, group, and split (text) or fold (whole number), sorted by subject.
    """

    def __init__(self, record: SplitRecord, table: pd.DataFrame) -> None:
        self.record, self.table = record, table

    @property
    def sides(self) -> dict[str, str]:
        """Subject -> its split, or "fold K"."""
        if self.record.options.folds is None:
            return dict(zip(self.table["subject_id"], self.table["split"], strict=True))
        folds = [f"fold {fold}" for fold in self.table["fold"]]
        return dict(zip(self.table["subject_id"], folds, strict=True))

    def roles(self, fold: int | None) -> dict[str, str]:
        """Subject -> train, validation or test; of one fold where it has folds.

        Raises:
            MedsslError: CONFIG_INVALID where the fold is missing, or is not one of the split.
        """
        options = self.record.options
        if options.folds is None and fold is None:
            return self.sides
        if options.folds is None or fold is None or fold >= options.folds:
            has = f"folds 0 to {options.folds - 1}" if options.folds else "no folds"
            raise MedsslError(
                "CONFIG_INVALID",
                f"The split {options.name} has {has}",
                where="split",
                fix=f"State split={options.name}{':0' if options.folds else ''}.",
            )
        fold_of = dict(zip(self.table["subject_id"], self.table["fold"], strict=True))
        return fold_roles(fold_of, options.folds, fold)


def refuse_taken(store: Store, name: str) -> None:
    """Stop where the store has a split of that name.

    Raises:
        MedsslError: SPLIT_EXISTS.
    """
    if (store.path / FOLDER / name).exists():
        raise _taken(name)


def _taken(name: str) -> MedsslError:
    return MedsslError(
        "SPLIT_EXISTS",
        "The store already has a split of that name",
        where=name,
        fix="Give another --name.",
    )


def write_split(store: Store, split: NamedSplit) -> Path:
    """Keep a split in the store, whole or not at all.

    Raises:
        MedsslError: SPLIT_EXISTS, DISK_FULL, or STORE_INVALID where it is not to be written to.
    """
    name = split.record.options.name
    target = store.path / FOLDER / name
    work = target.with_name(f".{name}.partial-{os.getpid()}")
    refuse_taken(store, name)
    shutil.rmtree(work, ignore_errors=True)
    try:
        work.mkdir(parents=True)
        split.table.to_parquet(work / "subjects.parquet", index=False)
        text = split.record.model_dump_json(indent=2) + "\n"
        (work / "split.json").write_text(text, encoding="utf-8")
        work.rename(target)  # fails where another process was faster: a full folder is in the way
    except OSError as error:
        shutil.rmtree(work, ignore_errors=True)
        if target.exists():
            raise _taken(name) from None
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise MedsslError(
            "DISK_FULL" if full else "STORE_INVALID", "The split could not be written", where=name
        ) from None
    return target


def list_splits(store: Store) -> list[str]:
    """The names of a store's splits."""
    names = (path.parent.name for path in (store.path / FOLDER).glob("*/split.json"))
    return sorted(name for name in names if NAME.fullmatch(name))


def read_split(store: Store, name: str) -> NamedSplit:
    """Open a named split.

    Raises:
        MedsslError: SPLIT_UNKNOWN, SPLIT_INVALID.
    """
    if name not in list_splits(store):
        raise MedsslError(
            "SPLIT_UNKNOWN",
            "The store has no split of that name",
            where=name,
            fix=f"There are: {', '.join(list_splits(store)) or 'none; see `medssl split`'}.",
        )
    folder = store.path / FOLDER / name
    try:
        text = (folder / "split.json").read_text(encoding="utf-8")
        record = SplitRecord.model_validate_json(text)
        table = pd.read_parquet(folder / "subjects.parquet")
        columns = ["subject_id", "fold" if record.options.folds else "split"]
        intact = len(table[columns].drop_duplicates("subject_id")) == record.subjects == len(table)
    except (OSError, ValueError, KeyError, ValidationError):
        intact = False
    if not intact:
        raise MedsslError("SPLIT_INVALID", "The split is damaged", where=name)
    return NamedSplit(record, table)


def splits_of(
    store: Store,
    name: str | None = None,
    fractions: Mapping[str, float] | None = None,
    seed: int = 0,
) -> dict[str, str]:
    """Every subject's split, for every verb, so that all hold out the same subjects.

    The named split; else the store's split ``default`` where it has one; else what
    :func:`medssl.store.splits.assign_splits` makes of the manifest.

    Args:
        store: the store.
        name: NAME, or NAME:FOLD of a split with folds.
        fractions, seed: where nothing states a split.

    Raises:
        MedsslError: SPLIT_UNKNOWN, SPLIT_INVALID, SPLIT_OUTDATED, CONFIG_INVALID, SUBJECT_LEAK.
    """
    if name is None and DEFAULT in list_splits(store):
        name = DEFAULT
    if name is None:
        return assign_splits(store.manifest, fractions, seed)
    plain, colon, fold = name.partition(":")
    if colon and not fold.isdecimal():
        raise MedsslError("CONFIG_INVALID", "A split reads NAME or NAME:FOLD", where=name)
    roles = read_split(store, plain).roles(int(fold) if colon else None)
    new = sorted(set(store.manifest["subject_id"]) - set(roles))
    if new:
        raise MedsslError(
            "SPLIT_OUTDATED",
            f"{len(new)} subjects of the store came after the split was made",
            where=plain,
            fix=f"`medssl split STORE --keep {plain} --name NEW` places them too.",
        )
    refuse_separated(exact_findings(store.manifest), roles)
    return roles
