"""The stores of a study: ingested once, split by subject, with what they are to be learned from."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from medssl.errors import MedsslError
from medssl.ingest.run import ingest
from medssl.store import Store
from medssl.store.make_split import make_split
from medssl.store.named_splits import DEFAULT, SplitOptions, list_splits, splits_of, write_split
from medssl.store.splits import split_subjects
from medssl.studies.runs import set_aside

VOLUME = "volume_mm3"


def ready_store(
    source: Path,
    out: Path,
    *,
    modality: str = "OT",
    label_names: Mapping[int, str] | None = None,
    volumes: bool = False,
    key_file: Path | None = None,
) -> Store:
    """Ingest a data set and split it, or open what is there of it.

    Where tables state splits, as MedMNIST's archives do, one picture may lie on two sides: the
    leakage guard looks, and moves it to the side that is tested on.

    Args:
        source: a folder or an archive that ``medssl ingest`` reads.
        out: the folder of the store.
        modality, label_names: as of ingest.
        volumes: make the volume of each label map the label ``volume_mm3``; ``OUT.input`` beside
            the store keeps a copy with it.
        key_file: the site key, as of ingest. Splits and draws go by pseudonyms, so two stores
            have the same subjects in them only under one key.

    Raises:
        MedsslError: INPUT_MISSING and what ingest raises.
    """
    if not out.exists():
        if volumes:
            source = with_volumes(source, out.with_name(f"{out.name}.input"))
        names = dict(label_names) if label_names else None
        ingest(source, out, modality=modality, label_names=names, key_file=key_file)
    store = Store.open(out)
    if DEFAULT not in list_splits(store):
        write_split(store, make_split(store, SplitOptions(stated="mend")))
    return store


def with_volumes(source: Path, out: Path) -> Path:
    """A copy of an ``images/``, ``labels/``, ``subjects.csv`` folder whose table also has
    ``volume_mm3``: the number of labelled voxels of every image, times the volume of one.

    Raises:
        MedsslError: INPUT_MISSING.
    """
    import nibabel as nib

    table_file = source / "subjects.csv"
    if not table_file.is_file():
        raise MedsslError(
            "INPUT_MISSING",
            "A folder with images, labels and subjects.csv is needed",
            where=source.name,
        )
    set_aside(out)
    shutil.copytree(source, out)
    table = pd.read_csv(table_file)
    volumes = []
    for name in table["file"]:
        label = nib.load(source / "labels" / name)
        voxels = np.count_nonzero(np.asarray(label.dataobj))
        volumes.append(float(voxels * abs(np.linalg.det(label.affine[:3, :3]))))
    table.assign(**{VOLUME: volumes}).to_csv(out / "subjects.csv", index=False)
    return out


def study_split(store: Store, validation: float = 0.1) -> dict[str, str]:
    """Subject -> split of a store that may state no test or no validation subjects.

    Stated validation subjects become the test set where there is none; nothing is then chosen on
    them, and a share of the training subjects validates.
    """
    split = splits_of(store)
    if "test" not in split.values():
        split = {s: "test" if name == "validation" else name for s, name in split.items()}
    if "validation" not in split.values():
        train = [subject for subject, name in split.items() if name == "train"]
        split |= split_subjects(train, {"train": 1 - validation, "validation": validation})
    return split
