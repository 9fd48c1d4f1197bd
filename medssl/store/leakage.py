"""The leakage guard: one subject under two ids, found in what the store holds.

Exact evidence is in the manifest: a study, series or volume that two subjects share, or the same
voxels under both. Suspicions come from the images (:mod:`medssl.store.thumbnails`). Either ties the
two subjects together: a split never separates them.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from medssl.errors import MedsslError
from medssl.store.thumbnails import Prints, flipped

Array = npt.NDArray[Any]

EXACT = {"volume_id": "volume", "series_id": "series", "study_id": "study", "sha256": "voxels"}

# Correlation of two thumbnails, by dimensions: halfway from the highest of two subjects to 1, or a
# little more, on the half of the subjects that benchmarks/leakage.py chooses on; it reports on the
# other half.
ALIKE = {2: 0.95, 3: 0.85}
SHARED_MARKS = 4
SAME_STEP = 1e-6  # relative
# What more subjects than this share is a convention (a phantom, a template), not a person.
MOST_SUBJECTS = 5
FEWEST_TO_CENTRE = 20
_BLOCK = 2048


@dataclass(frozen=True, order=True)
class Finding:
    """Two subjects that may be one.

    Attributes:
        subjects: the two pseudonyms, in order.
        kind: "volume", "series", "study" or "voxels" (exact); "thumbnail", "marks" or "step".
        volumes: a volume of each, in the order of the subjects.
        score: correlation of the thumbnails, number of shared marks, the step; 1 where exact.
    """

    subjects: tuple[str, str]
    kind: str
    volumes: tuple[str, str]
    score: float = 1.0

    @property
    def exact(self) -> bool:
        """Whether it is evidence, not a suspicion."""
        return self.kind in EXACT.values()


def exact_findings(manifest: pd.DataFrame) -> list[Finding]:
    """Ids and voxels that two subjects share; a glance at the manifest.

    Args:
        manifest: with subject_id, and of volume_id, series_id, study_id and sha256 those there are.
    """
    found: list[Finding] = []
    for column, kind in EXACT.items():
        if column not in manifest:
            continue
        volume = manifest.get("volume_id", "")
        table = manifest[[column, "subject_id"]].assign(volume=volume)
        table = table[table[column].notna() & (table[column] != "")]
        table = table.sort_values([column, "subject_id", "volume"])
        table = table.drop_duplicates([column, "subject_id"])
        table = table[table.duplicated(column, keep=False)]
        for _, group in table.groupby(column, sort=False):
            rows = list(zip(group["subject_id"], group["volume"], strict=True))
            found += [_finding(rows[0], other, kind) for other in rows[1:]]
    return sorted(found)


def suspicions(manifest: pd.DataFrame, prints: Prints) -> tuple[list[Finding], int]:
    """Volumes of two subjects that look like one image, or two crops of one.

    Args:
        manifest: with volume_id, subject_id, dims, modality and spacing.
        prints: the rows of the manifest's volumes, in its order.

    Returns:
        for every kind at most one finding, the surest, of two subjects; and the number of volumes
        that resemble more than five other subjects in one way, which ties nobody.
    """
    pairs: list[tuple[int, int, str, float]] = []
    crowded: set[int] = set()
    subjects = pd.factorize(manifest["subject_id"])[0]
    for dims in sorted(set(manifest["dims"])):
        chosen = np.flatnonzero((manifest["dims"] == dims).to_numpy())
        alike, many = _alike(prints.thumbnail[chosen], subjects[chosen], int(dims))
        pairs += [(int(chosen[i]), int(chosen[j]), "thumbnail", s) for i, j, s in alike]
        crowded |= {int(chosen[i]) for i in many}
    pairs += [(i, j, "marks", s) for i, j, s in _shared_marks(prints.marks, subjects)]
    pairs += [(i, j, "step", s) for i, j, s in _same_step(prints.step, manifest, subjects)]
    names = list(zip(manifest["subject_id"], manifest["volume_id"], strict=True))
    best: dict[tuple[tuple[str, str], str], Finding] = {}
    for i, j, kind, score in pairs:
        one = _finding(names[i], names[j], kind, round(score, 7))
        known = best.setdefault((one.subjects, kind), one)
        if (one.score, known.volumes) > (known.score, one.volumes):
            best[one.subjects, kind] = one
    return sorted(best.values()), len(crowded)


def _finding(a: tuple[str, str], b: tuple[str, str], kind: str, score: float = 1.0) -> Finding:
    first, second = sorted((a, b))
    return Finding((first[0], second[0]), kind, (first[1], second[1]), score)


def centred(thumbnails: Array, subjects: Array, dims: int) -> npt.NDArray[np.float32]:
    """Thumbnails (n, 4096) without what all subjects share, of length 1 again.

    Heads are alike; what tells them apart is left when their mean is taken away. Every subject
    counts once in it, and its mirror image as much; of fewer than 20 subjects none is taken.
    """
    rows = thumbnails.astype(np.float32)
    count = int(subjects.max()) + 1
    weights = 1 / np.maximum(np.bincount(subjects, minlength=count), 1)
    present = int((np.bincount(subjects) > 0).sum())
    if present < FEWEST_TO_CENTRE:
        return rows
    mean = (weights[subjects] / present).astype(np.float32) @ rows
    mean = (mean + flipped(mean[None], dims)[0]) / 2
    contrast = np.abs(rows).sum(1, keepdims=True) > 0
    rows = np.where(contrast, rows - mean, 0)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    length[length < 1e-3] = np.inf  # nothing but the mean
    unit: npt.NDArray[np.float32] = rows / length
    return unit


def _alike(
    thumbnails: Array, subjects: Array, dims: int
) -> tuple[list[tuple[int, int, float]], list[int]]:
    """Pairs above the threshold, block by block; and the rows alike to too many subjects."""
    rows = centred(thumbnails, subjects, dims)
    pairs: list[tuple[int, int, float]] = []
    crowded: list[int] = []
    for top in range(0, len(rows), _BLOCK):
        some = slice(top, min(top + _BLOCK, len(rows)))
        left, mirrored = rows[some], flipped(rows[some], dims)
        parts = []
        for start in range(0, len(rows), _BLOCK):
            right = rows[start : start + _BLOCK].T
            score = np.maximum(left @ right, mirrored @ right)
            score[subjects[some, None] == subjects[None, start : start + _BLOCK]] = 0
            i, j = np.nonzero(score > ALIKE[dims])
            parts.append(np.stack([i + top, j + start, subjects[j + start], score[i, j]], axis=1))
        found = np.concatenate(parts)  # row, other row, other subject, score
        # Of every row and other subject the best.
        found = found[np.lexsort((found[:, 1], -found[:, 3], found[:, 2], found[:, 0]))]
        found = found[np.unique(found[:, [0, 2]], axis=0, return_index=True)[1]]
        row, count = np.unique(found[:, 0], return_counts=True)
        crowded += [int(i) for i in row[count > MOST_SUBJECTS]]
        kept = found[~np.isin(found[:, 0], crowded)]
        pairs += [(int(i), int(j), float(s)) for i, j, _, s in kept]
    full = set(crowded)
    return [pair for pair in pairs if pair[1] not in full], crowded


def _shared_marks(marks: Array, subjects: Array) -> list[tuple[int, int, float]]:
    """Two subjects that share enough marks: the volumes with the first of them, and how many."""
    shared: Counter[tuple[int, int]] = Counter()
    volumes: dict[tuple[int, int], tuple[int, int]] = {}
    owners = np.repeat(np.arange(len(marks)), marks.shape[1])
    for group in _groups_of_equal(marks.ravel(), owners):
        volume_of = {int(subjects[i]): int(i) for i in reversed(group)}
        if 1 < len(volume_of) <= MOST_SUBJECTS:
            for a, b in itertools.combinations(sorted(volume_of), 2):
                shared[a, b] += 1
                volumes.setdefault((a, b), (volume_of[a], volume_of[b]))
    return [(*volumes[ab], float(n)) for ab, n in sorted(shared.items()) if n >= SHARED_MARKS]


def _groups_of_equal(values: Array, owners: Array) -> Iterable[Array]:
    """The owners of every value that is there more than once; 0 is no value."""
    keep = values != 0
    values, owners = values[keep], owners[keep]
    order = np.argsort(values, kind="stable")
    cuts = np.flatnonzero(np.diff(values[order])) + 1
    return (g for g in np.split(owners[order], cuts) if len(g) > 1)


def _same_step(
    steps: Array, manifest: pd.DataFrame, subjects: Array
) -> list[tuple[int, int, float]]:
    """A volume of each of two subjects that share step, modality and spacing."""
    scans: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    columns = zip(manifest["modality"], manifest["spacing"], strict=True)
    for i, (modality, spacing) in enumerate(columns):
        if steps[i] > 0:
            scans[(modality, *(round(float(v), 3) for v in spacing))].append(i)
    pairs: list[tuple[int, int, float]] = []
    for members in scans.values():
        order = np.array(sorted(members, key=lambda i: (steps[i], i)))
        cuts = np.flatnonzero(np.diff(steps[order]) > SAME_STEP * steps[order][1:]) + 1
        for group in np.split(order, cuts):
            first = {int(subjects[i]): int(i) for i in reversed(group)}
            if 1 < len(first) <= MOST_SUBJECTS:
                start, *rest = sorted(first.values())
                pairs += [(start, other, float(steps[start])) for other in rest]
    return pairs


def tie(subject_ids: Iterable[str], pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Every subject's group, named by its first member: those that pairs connect are one."""
    head = {subject: subject for subject in subject_ids}

    def top(subject: str) -> str:
        while head[subject] != subject:
            head[subject] = head[head[subject]]
            subject = head[subject]
        return subject

    for pair in pairs:
        first, second = sorted(top(subject) for subject in pair)
        head[second] = first
    return {subject: top(subject) for subject in head}


def separated(findings: Sequence[Finding], split: Mapping[str, str]) -> list[Finding]:
    """The findings whose two subjects a split puts on different sides."""
    return [f for f in findings if split.get(f.subjects[0], "") != split.get(f.subjects[1], "")]


def refuse_separated(findings: Sequence[Finding], split: Mapping[str, str]) -> None:
    """Stop where a split separates two ids of what seems one subject.

    Raises:
        MedsslError: SUBJECT_LEAK.
    """
    apart = separated(findings, split)
    if apart:
        one = apart[0]
        what = "are one subject" if one.exact else "look like one subject"
        raise MedsslError(
            "SUBJECT_LEAK",
            f"{len({f.subjects for f in apart})} pairs of ids {what} and lie on two sides",
            where=f"{' and '.join(one.subjects)}, same {one.kind}",
            fix="`medssl split STORE --check` lists them; --stated mend puts each on one side.",
        )
