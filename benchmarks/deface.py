"""How well `medssl ingest --deface` finds and removes faces: drawn heads, and real ones.

Heads of many builds, sizes, poses and contrasts are drawn (medssl.phantom.face). Printed for each
contrast: in how many the face was found and removed (the others are refused), the least and the
mean share of the skin voxels of eyes, nose, lips and chin that were removed, and how much of the
brain was. Beside it quickshear (Schimke and Hale 2011), where it is installed, which is given the
true brain; medssl is not. With MEDSSL_TEST_DATA set, one line for each real DICOM series follows.

    python benchmarks/deface.py --heads 25
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from medssl.errors import MedsslError
from medssl.ingest.deface import deface
from medssl.ingest.face import face_state
from medssl.ingest.run import ingest
from medssl.phantom.face import FacePhantom, face
from medssl.store import Store

CONTRASTS = {"CT": "CT", "T1": "MR", "FLAIR": "MR", "PT": "PT"}
REMOVED = ("eyes", "nose", "lips", "chin")
Changed = Callable[[FacePhantom, str], Any]


def by_medssl(head: FacePhantom, modality: str) -> Any:
    """What medssl changed, or None where it refused."""
    try:
        # A constant that cannot be in the image, so that every voxel set shows.
        image = head.image + (0 if modality == "CT" else 1)
        return deface(image[None], head.affine, modality)[0][0] != image
    except MedsslError:
        return None


def by_quickshear(head: FacePhantom, modality: str) -> Any:
    """What quickshear changed."""
    nib, tool = importlib.import_module("nibabel"), importlib.import_module("quickshear")
    image = nib.Nifti1Image(head.image + 2000, head.affine)
    brain = nib.Nifti1Image(head.brain.astype(np.uint8), head.affine)
    margin = round(10 / head.affine[0, 0])  # 10 voxels of 1 mm, its default
    return np.asarray(tool.quickshear(image, brain, margin).dataobj) != head.image + 2000


def phantoms(name: str, changed: Changed, heads: int, voxel: float, turn: float) -> None:
    """One row for every contrast."""
    for number, (contrast, modality) in enumerate(CONTRASTS.items()):
        rng = np.random.default_rng(1000 + number)
        shares: dict[str, list[float]] = {part: [] for part in (*REMOVED, "brain")}
        seconds = []
        for _ in range(heads):
            head = face(
                int(rng.integers(2**31)),
                contrast=contrast,
                shape=[round(mm / voxel) for mm in (240, 288, 288)],
                spacing=[voxel] * 3,
                turn=rng.uniform(-turn, turn, 3),
                at=(*rng.uniform(-8, 8, 2), rng.uniform(10, 30)),
                size=rng.uniform(0.8, 1.1),
            )
            start = time.perf_counter()
            where = changed(head, modality)
            seconds.append(time.perf_counter() - start)
            if where is not None:
                for part in REMOVED:
                    shares[part].append(float(where[head.features[part]].mean()))
                shares["brain"].append(float(where[head.brain].mean()))
        row = [name, contrast, f"{len(shares['brain'])}/{heads}"]
        row += [f"{100 * min(s):.0f} / {100 * np.mean(s):.1f}" for s in _parts(shares)]
        row += [f"{100 * max(shares['brain'], default=0):.3f}", f"{np.mean(seconds):.1f}"]
        print("| " + " | ".join(row) + " |", flush=True)


def _parts(shares: dict[str, list[float]]) -> list[list[float]]:
    return [shares[part] or [float("nan")] for part in REMOVED]


def real(data: Path) -> None:
    """What becomes of each real series; several volumes of one count together."""
    print("\n| modality | shape | spacing, mm | volumes | face | with --deface |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        ingest(data / "dicom", Path(scratch) / "store", allow=["SLICES_FEWER_THAN_STATED"])
        store = Store.open(Path(scratch) / "store")
        for _, group in store.manifest[store.manifest["dims"] == 3].groupby("series_id"):
            row = group.iloc[0]
            volume = store[row["volume_id"]]
            array, affine = np.asarray(volume.array()), np.asarray(volume.affine)
            state = face_state(array, affine, row["modality"])
            try:
                end = f"{100 * deface(array, affine, row['modality'], state)[1]:.1f} % removed"
            except MedsslError:
                end = "kept" if state.state == "none" else "FACE_NOT_REMOVED"
            shape = " x ".join(str(n) for n in row["shape"])
            spacing = " x ".join(f"{mm:.2f}" for mm in row["spacing"])
            cells = [row["modality"], shape, spacing, str(len(group))]
            print(f"| {' | '.join(cells)} | {state.state}: {state.reason} | {end} |", flush=True)


def main(
    heads: Annotated[int, typer.Option(help="Heads drawn for each contrast.")] = 25,
    voxel: Annotated[float, typer.Option(help="Voxel size in mm.")] = 2.0,
    turn: Annotated[float, typer.Option(help="Most degrees about each axis.")] = 20.0,
) -> None:
    """Print the tables."""
    print(
        "| tool | contrast | done | eyes, least / mean % | nose | lips | chin | brain, most % | s |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    phantoms("medssl", by_medssl, heads, voxel, turn)
    if importlib.util.find_spec("quickshear"):
        phantoms("quickshear, true brain given", by_quickshear, heads, voxel, turn)
    if "MEDSSL_TEST_DATA" in os.environ:
        real(Path(os.environ["MEDSSL_TEST_DATA"]))


if __name__ == "__main__":
    typer.run(main)
