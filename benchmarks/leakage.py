"""How well the leakage guard finds one subject under two ids, on real scans; and how fast it is.

Half of the subjects of every set serve to choose thresholds, the other half to report. Three
questions: two crops of one head (the hippocampus set says which files belong together), copies that
were exported again in ten ways, and pictures that an archive holds twice.

    python benchmarks/leakage.py DATA --volumes 10000
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import typer
from scipy import ndimage

from medssl.ingest.run import ingest
from medssl.store import Store
from medssl.store.arrays import smallest_lossless
from medssl.store.leakage import (
    ALIKE,
    SHARED_MARKS,
    centred,
    exact_findings,
    suspicions,
    tie,
)
from medssl.store.splits import split_subjects
from medssl.store.thumbnails import Prints, describe_array, flipped, prints_of

Array = npt.NDArray[Any]
HALVES = {"chosen on": 0.5, "measured on": 0.5}


def _window(image: Array, low: float, high: float) -> Array:
    """As 8 bits between two percentiles."""
    first, last = np.percentile(image, [low, high])
    return np.rint(np.clip((image - first) / max(last - first, 1e-9), 0, 1) * 255)


def _zoom(image: Array, factor: float) -> Array:
    return ndimage.zoom(image, factor, order=1, grid_mode=True, mode="nearest")


def _part(image: Array, start: float, end: float, axes: int) -> Array:
    """What lies between two fractions of the first axes."""
    places = [(int(n * start), max(int(n * start) + 1, round(n * end))) for n in image.shape]
    return image[tuple(slice(*place) for place in places[:axes])]


def _noise(image: Array) -> Array:
    spread = np.subtract(*np.percentile(image, [99.5, 0.5]))
    return image + np.random.default_rng(0).normal(0, 0.03 * spread, image.shape)


CHANGES: dict[str, Callable[[Array], Array]] = {
    "rescaled": lambda a: 3.7 * a + 11,
    "8 bits": lambda a: _window(a, 0.5, 99.5),
    "8 bits, narrow window": lambda a: _window(a, 10, 90),
    "resampled x 0.7": lambda a: _zoom(a, 0.7),
    "resampled x 1.4": lambda a: _zoom(a, 1.4),
    "flipped left to right": lambda a: a[::-1] if a.ndim == 3 else a[:, ::-1],
    "padded by an eighth": lambda a: np.pad(
        a, [(n // 8,) * 2 for n in a.shape], constant_values=a.min()
    ),
    "noise of 3 %": _noise,
    "10 % cropped at every end": lambda a: _part(a, 0.1, 0.9, a.ndim),
    "half of it": lambda a: _part(a, 0, 0.5, 1),
    "half of it, 8 bits": lambda a: _window(_part(a, 0, 0.5, 1), 0.5, 99.5),
}


@dataclass
class Case:
    """The volumes of one half of a set's subjects."""

    store: Store
    manifest: pd.DataFrame
    prints: Prints

    @property
    def pairs(self) -> tuple[Array, Array, Array]:
        """All pairs of volumes: first, second, and whether they are of one subject."""
        first, second = np.triu_indices(len(self.manifest), 1)
        subject = self.manifest["subject_id"].to_numpy()
        return first, second, subject[first] == subject[second]

    def correlations(self) -> Array:
        """Of the thumbnails of all pairs, the better of plain and mirrored."""
        first, second, _ = self.pairs
        dims = int(self.manifest["dims"].iloc[0])
        subjects = pd.factorize(self.manifest["subject_id"])[0]
        rows = centred(self.prints.thumbnail, subjects, dims)
        mirrored = flipped(rows, dims)
        return np.maximum(rows @ rows.T, mirrored @ rows.T)[first, second]

    def shared_marks(self) -> Array:
        """Number of marks that the two of each pair share."""
        sets = [set(row[row > 0].tolist()) for row in self.prints.marks]
        return np.array([len(a & b) for a, b in itertools.combinations(sets, 2)])


def halves(store: Store, dims: int) -> list[Case]:
    """The volumes of each half of the subjects, one of every series, those that show anything.

    Some DICOM test files hold white noise in place of a patient.
    """
    prints = prints_of(store)
    table = store.manifest
    chosen = (table["dims"] == dims) & ~table.duplicated("series_id")
    shown = [smoothness(store[v].array()[0]) > 0.5 for v in table["volume_id"]]
    side = table["subject_id"].map(split_subjects(table["subject_id"], HALVES))
    chosen &= np.array(shown)
    cases = []
    for name in HALVES:
        rows = table[chosen & (side == name)].reset_index(drop=True)
        cases.append(Case(store, rows, prints.rows(rows["sha256"].tolist())))
    return cases


def smoothness(image: Array) -> float:
    """The correlation of neighbouring voxels along the longest axis."""
    values = np.moveaxis(image, int(np.argmax(image.shape)), 0).astype(np.float64)
    return float(np.corrcoef(values[1:].ravel(), values[:-1].ravel())[0, 1])


def histogram_likeness(case: Case) -> Array:
    """Of all pairs: minus the distance of the standardised percentiles of the intensities."""
    shapes = []
    for volume_id in case.manifest["volume_id"]:
        levels = np.percentile(case.store[volume_id].array(), np.arange(1, 100))
        shapes.append((levels - levels.mean()) / levels.std())
    first, second, _ = case.pairs
    return -np.linalg.norm(np.stack(shapes)[first] - np.stack(shapes)[second], axis=1)


def crops_of_one_head(cases: list[Case]) -> None:
    """Every file its own subject: which of the pairs that belong together are found?"""
    print("\n## Two crops of one head (hippocampus)\n")
    print("| by | threshold | found, choosing half | false | found, other half | false |")
    print("| --- | --- | --- | --- | --- | --- |")
    scores: dict[str, Callable[[Case], Array]] = {
        "thumbnail": Case.correlations,
        "histogram": histogram_likeness,
        "marks": Case.shared_marks,
    }
    for name, score in scores.items():
        values = [score(case) for case in cases]
        same = [case.pairs[2] for case in cases]
        # The lowest threshold without a false alarm on the choosing half.
        free = float(values[0][~same[0]].max())
        fixed = {"thumbnail": ALIKE[3], "marks": SHARED_MARKS - 1}.get(name)
        for limit in [free] + ([float(fixed)] if fixed is not None else []):
            cells = [_found(v > limit, s) for v, s in zip(values, same, strict=True)]
            print(f"| {name} | > {limit:.3f} | {' | '.join(cells)} |")
    cells = []
    for case in cases:
        own = case.manifest.assign(subject_id=case.manifest["volume_id"])
        findings = [f for f in suspicions(own, case.prints)[0] if f.kind == "step"]
        group = tie(own["volume_id"], [f.subjects for f in findings])
        names = np.array([group[v] for v in own["volume_id"]])
        first, second, same = case.pairs
        cells.append(_found(names[first] == names[second], same))
    print(f"| step | 1e-6, relative | {' | '.join(cells)} |")
    whole = [int((c.prints.step[c.pairs[0]] == 0)[c.pairs[2]].sum()) for c in cases]
    print(f"\nPairs of whole numbers, which have no step: {whole[0]} and {whole[1]}.")


def _found(said: Array, same: Array) -> str:
    return f"{int((said & same).sum())} of {int(same.sum())} | {int((said & ~same).sum())}"


def exported_again(title: str, case: Case) -> None:
    """A copy of every volume joins the others under an id of its own."""
    subjects = case.manifest["subject_id"].nunique()
    print(f"\n## {title}: {len(case.manifest)} images of {subjects} subjects\n")
    print("| copy | thumbnail | marks | step | any | other subjects tied |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, change in CHANGES.items():
        found: list[set[str]] = []
        wrong = 0
        for row in case.manifest.to_dict("records"):
            image = np.asarray(case.store[row["volume_id"]].array()[0]).astype(np.float32)
            copy = smallest_lossless(change(image))[None]
            if copy.min() == copy.max():
                continue
            prints = Prints.join([case.prints, describe_array("copy", copy)])
            ids = {"volume_id": "copy", "subject_id": "copy"}
            table = pd.concat([case.manifest, pd.DataFrame([{**row, **ids}])], ignore_index=True)
            findings = [f for f in suspicions(table, prints)[0] if "copy" in f.subjects]
            found.append({f.kind for f in findings if row["subject_id"] in f.subjects})
            wrong += len({f.subjects for f in findings if row["subject_id"] not in f.subjects})
        kinds = [sum(kind in f for f in found) for kind in ("thumbnail", "marks", "step")]
        cells = [f"{100 * n / len(found):.0f} %" for n in (*kinds, sum(map(bool, found)))]
        print(f"| {name} | {' | '.join(cells)} | {wrong} |")


def held_twice(store: Store) -> None:
    """What the guard says of an archive that states no subjects."""
    table = store.manifest
    findings = exact_findings(table) + suspicions(table, prints_of(store))[0]
    exact = {f.subjects for f in findings if f.exact}
    suspected = {f.subjects for f in findings} - exact
    side = dict(zip(table["subject_id"], table["split"], strict=True))
    apart = [sum(side[a] != side[b] for a, b in pairs) for pairs in (exact, suspected)]
    print(f"\n## One picture twice: {len(table)} chest X-rays of 28 x 28\n")
    print(f"Equal voxels: {len(exact)} pairs, {apart[0]} of them in two splits of the archive.")
    print(f"Only suspected: {len(suspected)} pairs, {apart[1]} of them in two splits.")


def thresholds(cases: dict[str, list[Case]]) -> None:
    """What the thresholds lie between, on the choosing halves."""
    print("## Thresholds, from the choosing halves\n")
    print("| set | highest correlation of two subjects | most marks they share |")
    print("| --- | --- | --- |")
    for name, (case, _) in cases.items():
        same, marks = case.pairs[2], case.shared_marks()
        # Equal pictures under two ids are what is looked for, not false alarms.
        equal = case.manifest["sha256"].to_numpy()
        apart = ~same & (equal[case.pairs[0]] != equal[case.pairs[1]])
        print(f"| {name} | {case.correlations()[apart].max():.3f} | {marks[apart].max()} |")
    print(
        f"\nIn use: correlation above {ALIKE[3]:g} (2D: {ALIKE[2]:g}),"
        f" at least {SHARED_MARKS} marks."
    )


def speed(volumes: int) -> None:
    """Describing a CT, comparing many thumbnails, splitting 100,000 volumes."""
    rng = np.random.default_rng(0)
    image = rng.integers(-1000, 1000, (1, 512, 512, 300), dtype=np.int16)
    print("\n## Speed\n\n| what | seconds |\n| --- | --- |")
    started = time.perf_counter()
    describe_array("ct", image)
    print(f"| describe a volume of 512 x 512 x 300 | {time.perf_counter() - started:.2f} |")
    rows = rng.normal(size=(volumes, 4096)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    marks = rng.integers(1, 2**63, (volumes, 64), dtype=np.uint64)
    table = manifest_of(volumes)
    prints = Prints(table["sha256"].to_numpy(), rows.astype(np.float16), marks, rows[:, 0] * 0.0)
    started = time.perf_counter()
    suspicions(table, prints)
    print(f"| compare {volumes} volumes | {time.perf_counter() - started:.1f} |")
    table = manifest_of(100_000)
    started = time.perf_counter()
    groups = tie(table["subject_id"], [f.subjects for f in exact_findings(table)])
    split_subjects(groups, HALVES, groups=groups)
    print(f"| guard by ids and split 100000 volumes | {time.perf_counter() - started:.1f} |")


def manifest_of(volumes: int) -> pd.DataFrame:
    """Made-up rows, two volumes a subject."""
    names = {c: [f"{c}-{i}" for i in range(volumes)] for c in ("volume_id", "series_id", "sha256")}
    halved = {c: [f"{c}-{i // 2}" for i in range(volumes)] for c in ("subject_id", "study_id")}
    spacing = [[1.0, 1.0, 1.0]] * volumes
    return pd.DataFrame({**names, **halved, "dims": 3, "modality": "MR", "spacing": spacing})


def main(
    data: Annotated[Path, typer.Argument(help="The unpacked test data.")],
    volumes: Annotated[int, typer.Option(help="Thumbnails to compare for speed.")] = 10_000,
) -> None:
    """Print the tables."""
    with tempfile.TemporaryDirectory() as scratch:
        stores: dict[str, Store] = {}
        # The same pseudonyms, so the same halves, in every run.
        key = Path(scratch) / "site.key"
        key.write_text("0123456789abcdef" * 4 + "\n", encoding="ascii")
        for name in ("hippocampus", "dicom", "pneumonia2d"):
            modality = "MR" if name == "hippocampus" else "OT"
            ingest(data / name, Path(scratch) / name, key_file=key, modality=modality)
            stores[name] = Store.open(Path(scratch) / name)
        cases = {
            "hippocampus": halves(stores["hippocampus"], 3),
            "DICOM volumes": halves(stores["dicom"], 3),
            "CT slices": halves(stores["dicom"], 2),
            "chest X-rays": halves(stores["pneumonia2d"], 2),
        }
        thresholds(cases)
        crops_of_one_head(cases["hippocampus"])
        for name in ("hippocampus", "DICOM volumes", "CT slices"):
            exported_again(f"Exported again, {name}", cases[name][1])
        held_twice(stores["pneumonia2d"])
        speed(volumes)


if __name__ == "__main__":
    typer.run(main)
