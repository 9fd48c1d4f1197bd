"""The synthetic patients of the demonstration, as DICOM series and as labelled NIfTI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medssl.demo.settings import DemoSettings
from medssl.phantom import Phantom, head, torso
from medssl.phantom.dicom_writer import write_series
from medssl.phantom.nifti_writer import write_folder
from medssl.progress import track


@dataclass(frozen=True)
class Patients:
    """The patients, the split of each (by patient ID), and where their files are.

    training, held_out: folders of DICOM (held out: the patients of the split test). labelled: the
    folder of torsos with label maps. files: how many DICOM files were written.
    """

    phantoms: list[Phantom]
    split: dict[str, str]
    dicom: Path
    held_out: Path
    labelled: Path
    files: int

    def of(self, modality: str, *splits: str) -> list[Phantom]:
        """The patients of one modality in these splits (all, where none is named)."""
        return [
            phantom
            for phantom in self.phantoms
            if phantom.modality == modality
            and (not splits or self.split[phantom.patient_id] in splits)
        ]


def make_patients(out: Path, settings: DemoSettings) -> Patients:
    """Draw all patients and write them below `out`: dicom/, nifti/torso/, nifti/head/."""
    kinds = [("torso", i, s) for i, s in enumerate(settings.torsos.splits(), 1)]
    kinds += [("head", i, s) for i, s in enumerate(settings.heads.splits(), 1)]
    phantoms: list[Phantom] = []
    split: dict[str, str] = {}
    files = 0
    dicom = out / "dicom"
    for kind, number, role in track(kinds, "Drawing synthetic patients"):
        seed = settings.seed + number
        if kind == "torso":
            phantom = torso(seed, settings.torso_shape, settings.torso_spacing)
        else:
            phantom = head(seed, settings.head_shape, settings.head_spacing)
        folder = "held_out" if role == "test" and kind == "torso" else "training"
        if kind == "head" and role == "test":
            folder = "held_out_heads"
        files += len(write_series(phantom, dicom / folder))
        phantoms.append(phantom)
        split[phantom.patient_id] = role
    for modality, name in (("CT", "torso"), ("MR", "head")):
        write_folder(_of(phantoms, modality), out / "nifti" / name, split)
    return Patients(phantoms, split, dicom, dicom / "held_out", out / "nifti" / "torso", files)


def _of(phantoms: Sequence[Phantom], modality: str) -> list[Phantom]:
    return [phantom for phantom in phantoms if phantom.modality == modality]
