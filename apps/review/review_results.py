"""Read a results folder written by `medssl predict`: its status, its cases, their volumes.

Opening a folder reads `status.json` only; a case is read when it is asked for.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.orientations import OrientationError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from medssl.errors import MedsslError

FORMAT_VERSION = 1
# Positions that differ by less than this, in mm, are the same grid written twice.
GRID_TOLERANCE_MM = 1e-2
# What nibabel, gzip and numpy raise for a file that is absent, cut short or not NIfTI.
_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    zlib.error,
    ImageFileError,
    HeaderDataError,
    OrientationError,
)


@dataclass(frozen=True)
class Entry:
    """One line of `status.json`: a case that was written, or an input that was rejected."""

    case_id: str
    outcome: str
    code: str
    detail: str


@dataclass(frozen=True)
class Label:
    """One label of a case. `volume_ml` in millilitres; `voxels` on the case's own grid."""

    value: int
    name: str
    voxels: int
    volume_ml: float


@dataclass(frozen=True)
class Case:
    """What `case.json` says. `window` is (centre, width) in the units of the image, or None."""

    case_id: str
    modality: str
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    window: tuple[float, float] | None
    labels: tuple[Label, ...]


@dataclass(frozen=True)
class Volumes:
    """The image and segmentation of a case on one RAS+ grid.

    image : (x, y, z), its stored type or float32 where the file has a scale factor
    segmentation : (x, y, z), unsigned integers, 0 = background
    affine : (4, 4) float64, voxel index to RAS mm
    counts : voxels per label value, background included
    """

    image: NDArray[Any]
    segmentation: NDArray[Any]
    affine: NDArray[np.float64]
    counts: dict[int, int]

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    def centroid(self, value: int | None = None) -> tuple[int, int, int]:
        """Voxel index (x, y, z) nearest to the centroid of a label, or of all labels.

        The middle of the volume where the label is absent.
        """
        mask = self.segmentation > 0 if value is None else self.segmentation == value
        position = []
        for axis, size in enumerate(mask.shape):
            others = tuple(other for other in range(3) if other != axis)
            profile = np.count_nonzero(mask, axis=others)
            total = int(profile.sum())
            mean = float(profile @ np.arange(size)) / total if total else (size - 1) / 2
            position.append(int(np.floor(mean + 0.5)))
        return position[0], position[1], position[2]


class Results:
    """A results folder. Raises RESULTS_INVALID for a folder that is not one.

    Errors name the file that is wrong, relative to the folder, never the folder itself.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        status = _read_json(self.folder / "status.json", "status.json")
        version = status.get("format_version")
        if version != FORMAT_VERSION:
            raise MedsslError(
                "RESULTS_INVALID",
                f"format version {version!r} is not {FORMAT_VERSION}",
                where="status.json",
                fix="Open it with the medssl that wrote it.",
            )
        self.state = str(status.get("state", ""))
        self.task = str(status.get("task", ""))
        self.bundle_sha256 = str(status.get("bundle_sha256") or "")
        entries = [_entry(item) for item in _list(status.get("cases"))]
        self.cases = tuple(entry.case_id for entry in entries if entry.outcome == "written")
        self.rejected = tuple(entry for entry in entries if entry.outcome != "written")
        self._check_case_ids()

    def case(self, case_id: str) -> Case:
        """Read one `case.json`. Raises RESULTS_INVALID."""
        where = f"cases/{case_id}/case.json"
        content = _read_json(self._case_folder(case_id) / "case.json", where)
        try:
            return _parse_case(case_id, content)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise MedsslError(
                "RESULTS_INVALID",
                f"a field is missing or malformed: {type(error).__name__}",
                where=where,
                fix="Run `medssl predict` again.",
            ) from error

    def volumes(self, case_id: str) -> Volumes:
        """Load the image and segmentation of a case. Raises RESULTS_INVALID.

        The segmentation must lie on the image's own grid: showing it elsewhere would mislead.
        """
        folder = self._case_folder(case_id)
        image, affine = _load_ras(folder / "image.nii.gz", case_id)
        segmentation, other = _load_ras(folder / "segmentation.nii.gz", case_id)
        if image.shape != segmentation.shape or not _same_grid(affine, other, image.shape):
            raise MedsslError(
                "RESULTS_INVALID",
                "the segmentation does not lie on the grid of the image",
                where=f"cases/{case_id}",
                fix="Run `medssl predict` again.",
            )
        segmentation = _as_labels(segmentation, case_id)
        totals = np.bincount(segmentation.ravel())
        counts = {int(value): int(totals[value]) for value in np.flatnonzero(totals)}
        return Volumes(image, segmentation, affine, counts)

    def _case_folder(self, case_id: str) -> Path:
        return self.folder / "cases" / case_id

    def _check_case_ids(self) -> None:
        """Refuse repeated ids, and ids that would lead out of the folder."""
        unsafe = any(name in {"", ".", ".."} or set(name) & {"/", "\\"} for name in self.cases)
        if unsafe or len(set(self.cases)) != len(self.cases):
            raise MedsslError(
                "RESULTS_INVALID",
                "a case id is repeated or is not a plain name",
                where="status.json",
                fix="Run `medssl predict` again.",
            )


def _read_json(path: Path, where: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = "is not valid JSON" if path.is_file() else "is not there"
        raise MedsslError(
            "RESULTS_INVALID",
            f"{path.name} {reason}",
            where=where,
            fix="Give the OUT folder of `medssl predict`.",
        ) from error
    if not isinstance(content, dict):
        raise MedsslError("RESULTS_INVALID", f"{path.name} is not an object", where=where)
    return content


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise MedsslError("RESULTS_INVALID", "`cases` is not a list", where="status.json")
    return value


def _entry(item: object) -> Entry:
    if not isinstance(item, dict) or not isinstance(item.get("case_id"), str):
        raise MedsslError("RESULTS_INVALID", "a case has no case_id", where="status.json")
    code, detail = str(item.get("code") or ""), str(item.get("detail") or "")
    return Entry(item["case_id"], str(item.get("outcome", "")), code, detail)


def _parse_case(case_id: str, content: dict[str, Any]) -> Case:
    window = content.get("window")
    labels = [
        Label(int(value), str(item["name"]), int(item["voxels"]), float(item["volume_ml"]))
        for value, item in content["labels"].items()
    ]
    return Case(
        case_id=case_id,
        modality=str(content.get("modality") or ""),
        shape=tuple(int(size) for size in content["shape"]),
        spacing=tuple(float(size) for size in content["spacing"]),
        window=(float(window["centre"]), float(window["width"])) if window else None,
        labels=tuple(sorted(labels, key=lambda label: label.value)),
    )


def _load_ras(path: Path, case_id: str) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Load a 3D NIfTI as RAS+ (closest axes; an oblique grid stays oblique)."""
    where = f"cases/{case_id}/{path.name}"
    try:
        image = nib.load(path)
        # Keep stored integers where nothing scales them: half the memory of float32.
        scaled = image.dataobj.slope != 1 or image.dataobj.inter != 0
        array = image.get_fdata(dtype=np.float32) if scaled else np.asanyarray(image.dataobj)
        turn = nib.io_orientation(image.affine)
        inverse = nib.orientations.inv_ornt_aff(turn, array.shape[:3])
    except _UNREADABLE as error:
        raise MedsslError(
            "RESULTS_INVALID",
            "the file is missing or cannot be read",
            where=where,
            fix="Run `medssl predict` again.",
        ) from error
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim != 3 or array.size == 0 or array.dtype.kind not in "biuf":
        raise MedsslError("RESULTS_INVALID", "the file does not hold one 3D volume", where=where)
    return nib.apply_orientation(array, turn), np.asarray(image.affine @ inverse, dtype=np.float64)


def _same_grid(one: NDArray[Any], other: NDArray[Any], shape: tuple[int, ...]) -> bool:
    """True where every corner of the grid lies at the same place in mm under both affines."""
    corners = np.array(np.meshgrid(*[(0, size - 1) for size in shape])).reshape(3, -1)
    homogeneous = np.vstack([corners, np.ones(corners.shape[1])])
    return bool(np.abs((one - other) @ homogeneous).max() <= GRID_TOLERANCE_MM)


def _as_labels(array: NDArray[Any], case_id: str) -> NDArray[Any]:
    """Label values as unsigned integers; anything else is refused, not rounded."""
    low, high = float(array.min()), float(array.max())
    wanted = np.uint8 if high < 256 else np.uint16
    # A negative value, a fraction, NaN or a value beyond 65535 is no label.
    if not (low >= 0 and high < 65536 and np.array_equal(array, array.astype(wanted))):
        raise MedsslError(
            "RESULTS_INVALID",
            "the segmentation holds values that are not labels",
            where=f"cases/{case_id}/segmentation.nii.gz",
            fix="Run `medssl predict` again.",
        )
    return array.astype(wanted, copy=False)
