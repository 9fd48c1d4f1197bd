"""The cases below IN: every DICOM series and every NIfTI (or PNG) image, named without identity."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import MedsslError
from medssl.ingest.dicom import DicomVolume, find_volumes
from medssl.ingest.headers import Refused
from medssl.ingest.nifti import read_nifti
from medssl.ingest.pictures import read_png
from medssl.ingest.plan import LABEL_FOLDERS
from medssl.ingest.pseudonym import Pseudonymizer
from medssl.ingest.scan import Found, Kind
from medssl.ingest.slices import read_slices
from medssl.predict.nifti import nifti_grid
from medssl.predict.verify import LPS_TO_RAS, plane_affine

# Series that ingest reads and a DICOM SEG cannot refer to yet.
_UNPREDICTED = {
    "enhanced": "ENHANCED_UNSUPPORTED",
    "mosaic": "MOSAIC_UNSUPPORTED",
    "several": "TIME_SERIES_UNSUPPORTED",
    "picture": "MODALITY_UNSUPPORTED",
    "tilted": "GANTRY_TILT",
}
# What says something of other files, and files that say nothing.
_NO_IMAGE = (Kind.TABLE, Kind.OTHER, Kind.LINK, Kind.DICOMDIR)


@dataclass(frozen=True)
class Image:
    """One image as it was stored.

    Attributes:
        array: (channel, x, y, z), or (channel, row, column) for a 2D image.
        affine: 4x4, voxel (x, y, z) to RAS mm; of a 2D image x runs along the columns and y
            along the rows, and None is where there is no geometry.
        spacing: mm per spatial axis of `array`.
    """

    array: npt.NDArray[Any]
    affine: npt.NDArray[np.float64] | None
    spacing: tuple[float, ...]


@dataclass(frozen=True)
class Case:
    """Something to predict.

    Attributes:
        case_id: a series' pseudonym, or an image file's stem.
        source: "dicom", "nifti" or "png".
        modality: DICOM code, empty where the file does not say.
        files: the slices of a series, or the one file.
        load: reads it; raises MedsslError for what it refuses.
    """

    case_id: str
    source: str
    modality: str
    files: list[Path]
    load: Callable[[], Image]


@dataclass(frozen=True)
class Refusal:
    """A case that was refused before it was read; `detail` holds no identifiers."""

    case_id: str
    source: str
    files: list[Path]
    code: str
    detail: str


@dataclass
class Finding:
    """What lies below IN. `ignored` counts the files that are no images."""

    cases: list[Case] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    ignored: int = 0


def find_cases(
    found: Sequence[Found], names: Pseudonymizer, *, two_dimensional: bool, pictures: bool
) -> Finding:
    """Sort scanned files into cases.

    Args:
        found: what `medssl.ingest.scan.scan` found.
        names: makes the case names of DICOM series.
        two_dimensional: take single DICOM slices for 2D images.
        pictures: take PNG files too.

    Returns:
        cases and refusals; label maps (in a folder ``labels`` beside ``images``), tables and
        other files are only counted.
    """
    finding = Finding()
    taken: set[str] = set()
    _find_dicom(found, names, two_dimensional, finding)
    label_maps = _label_maps(found)
    for item in found:
        if item.kind is Kind.DICOM:
            continue
        if item.relative in label_maps or item.kind in _NO_IMAGE:
            finding.ignored += 1
            continue
        case_id = _unique(item.relative, taken)
        if item.kind is Kind.NIFTI:
            load = partial(load_nifti, item.path)
            finding.cases.append(Case(case_id, "nifti", "", [item.path], load))
        elif item.kind is Kind.PNG and pictures:
            load = partial(_load_png, item.path)
            finding.cases.append(Case(case_id, "png", "", [item.path], load))
        else:
            code = "FILE_UNREADABLE" if item.kind is Kind.BROKEN else "FORMAT_UNSUPPORTED"
            detail = item.note or f"{item.kind} files are not predicted on"
            finding.refusals.append(Refusal(case_id, "file", [item.path], code, detail))
    return finding


def _find_dicom(
    found: Sequence[Found], names: Pseudonymizer, two_dimensional: bool, finding: Finding
) -> None:
    relative = {item.path: item.relative for item in found if item.kind is Kind.DICOM}
    volumes, rejections = find_volumes(relative, single_slices=two_dimensional)
    for uid, several in groupby(volumes, key=lambda volume: volume.series_uid):
        case_id, (one, *others) = names.series(uid), list(several)
        kind = "several" if others else "tilted" if one.original is not None else one.kind
        code = _UNPREDICTED.get(kind)
        if code is None:
            load = partial(_load_dicom, one)
            finding.cases.append(Case(case_id, "dicom", one.modality, one.files, load))
        else:
            files = list(dict.fromkeys(path for v in (one, *others) for path in v.files))
            text = "Such a series is not predicted on yet"
            finding.refusals.append(Refusal(case_id, "dicom", files, code, text))
    for rejection in rejections:
        if rejection.code == "NOT_AN_IMAGE":
            finding.ignored += len(rejection.files)
            continue
        first = read_slices(rejection.files[0])
        uid = first.series_uid if isinstance(first, Refused) else first[0].series_uid
        case_id = names.series(uid) if uid else names.path(relative[rejection.files[0]])
        finding.refusals.append(
            Refusal(case_id, "dicom", rejection.files, rejection.code, rejection.detail)
        )


def _load_dicom(volume: DicomVolume) -> Image:
    array = volume.decode()
    if volume.affine is not None:
        sides = np.linalg.norm(volume.affine[:3, :3], axis=0)
        return Image(array, volume.affine, tuple(float(side) for side in sides))
    pose = volume.headers[0].pose
    rows, columns = volume.pixel_spacing
    if volume.kind == "projection":
        return Image(array, None, (rows, columns))
    plane = plane_affine(pose.position, pose.orientation, pose.pixel_spacing)
    return Image(array, LPS_TO_RAS @ plane, (rows, columns))


def load_nifti(path: Path) -> Image:
    """A NIfTI file on its own grid; one slice along z is a 2D image, (channel, row, column).

    Raises:
        MedsslError: what reading NIfTI raises.
    """
    array, affine = read_nifti(path)
    if affine is not None:
        sides = np.linalg.norm(affine[:3, :3], axis=0)
        return Image(array, affine, tuple(float(side) for side in sides))
    # One slice along z: (row, column) is (y, x) of the file.
    grid = nifti_grid(path)
    sides = np.linalg.norm(grid.affine[:3, :3], axis=0)
    return Image(array, grid.affine, (float(sides[1]), float(sides[0])))


def _load_png(path: Path) -> Image:
    return Image(read_png(path), None, (1.0, 1.0))


def _label_maps(found: Sequence[Found]) -> set[str]:
    """NIfTI and PNG files in a label folder beside a folder of images."""
    folders = {PurePosixPath(item.relative).parent for item in found}
    labels = {
        folder.parent / LABEL_FOLDERS[folder.name]
        for folder in folders
        if folder.name in LABEL_FOLDERS
    }
    return {
        item.relative
        for item in found
        if item.kind in (Kind.NIFTI, Kind.PNG) and PurePosixPath(item.relative).parent in labels
    }


def _stem(relative: str) -> str:
    """A file's name without its ending, of letters, digits, dot, dash and underscore."""
    name = re.sub(r"\.(nii\.gz|nii|png|dcm|gz)$", "", PurePosixPath(relative).name, flags=re.I)
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._") or "case"


def _unique(relative: str, taken: set[str]) -> str:
    """The stem, or with the folders before it where another file has the same."""
    name, number = _stem(relative), 1
    while name.lower() in taken:
        whole = _stem(relative.replace("/", "_"))
        name = whole if number == 1 else f"{whole}-{number}"
        number += 1
    taken.add(name.lower())
    return name


def check_modality(modality: str, known: Sequence[str]) -> None:
    """Raise CONTRACT_MISMATCH where a bundle that names its modalities does not name this one.

    A file that does not state its modality passes: only its user can know.
    """
    if modality and known and modality not in known:
        raise MedsslError(
            "CONTRACT_MISMATCH",
            f"the series is {modality} and the bundle was trained on {', '.join(known)}",
            fix="Use a bundle trained on such data.",
        )
