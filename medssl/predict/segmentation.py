"""One segmented case on disk: NIfTI, DICOM SEG and ``case.json``, read back before it counts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.bundle import BundleSpec
from medssl.errors import MedsslError
from medssl.predict.cases import Case, Image
from medssl.predict.dicom_seg import Origin, segment_names, write_seg
from medssl.predict.nifti import NiftiGrid, grid_of, nifti_grid, write_nifti
from medssl.predict.verify import LabelPlace, check_nifti, check_seg
from medssl.store.grid import spacing_of
from medssl.store.intensity import statistics

IMAGE, LABELS, SEG, CASE = "image.nii.gz", "segmentation.nii.gz", "segmentation.dcm", "case.json"

# The soft-tissue window radiologists start from, in HU.
_CT_WINDOW = {"centre": 40.0, "width": 400.0}


def class_names(spec: BundleSpec) -> list[str]:
    """A name for each output of a task bundle; of a segmentation, the background first."""
    count = spec.architecture.task.classes if spec.architecture.task else 0
    if spec.kind == "classification":
        known = dict(enumerate(spec.classes))
        return [known.get(index) or f"class {index}" for index in range(count)]
    return ["background", *segment_names(range(1, count), spec.label_names)]


def write_case(
    folder: Path,
    case: Case,
    image: Image,
    labels: npt.NDArray[np.uint8],
    spec: BundleSpec,
    keep_image: bool,
) -> str:
    """Write one case into a folder, and read every label map back.

    Args:
        folder: an empty folder.
        case, image: what was predicted on.
        labels: (x, y, z) or (row, column), on the grid of `image`.
        spec: the bundle's.
        keep_image: write the image too.

    Returns:
        why a DICOM series with labels got no DICOM SEG, empty where nothing is amiss.

    Raises:
        MedsslError: PREDICTION_MOVED; CONTRACT_MISMATCH for an image without geometry.
    """
    if image.affine is None:
        raise MedsslError("CONTRACT_MISMATCH", "An image without geometry cannot be segmented")
    volume, voxels = _as_volume(labels), _as_volume(image.array[0])
    grid = (
        nifti_grid(case.files[0]) if case.source == "nifti" else grid_of(volume.shape, image.affine)
    )
    names = {name: value for value, name in enumerate(class_names(spec)) if value}
    if keep_image:
        write_nifti(folder / IMAGE, voxels, grid)
    write_nifti(folder / LABELS, volume, grid)
    places = check_nifti(folder / LABELS, volume, image.affine, names)
    reason = ""
    if case.source == "dicom" and volume.any():
        reason = _write_checked_seg(folder / SEG, case, volume, image.affine, names, spec)
    record = _record(case, voxels, grid, names, places, spec)
    (folder / CASE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return reason


def _write_checked_seg(
    path: Path,
    case: Case,
    volume: npt.NDArray[np.uint8],
    affine: npt.NDArray[np.float64],
    names: Mapping[str, int],
    spec: BundleSpec,
) -> str:
    """Write and read back the DICOM SEG; the reason where the series does not allow one."""
    label_names = {value: name for name, value in names.items()}
    origin = Origin(spec.weights_sha256, spec.method)
    try:
        write_seg(path, case.files, volume, affine, label_names, origin)
    except MedsslError as error:
        if error.code not in ("DICOM_TAG_MISSING", "DICOM_TAG_INVALID"):
            raise
        # De-identified archives often lack these attributes; the label map is right all the same.
        path.unlink(missing_ok=True)
        return error.what
    check_seg(path, volume, affine, names)
    return ""


def _as_volume(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(x, y, z) as it is; (row, column) as (x, y, 1) with x along the columns."""
    return array if array.ndim == 3 else np.ascontiguousarray(array.T[:, :, None])


def _record(
    case: Case,
    voxels: npt.NDArray[Any],
    grid: NiftiGrid,
    names: Mapping[str, int],
    places: Mapping[str, LabelPlace],
    spec: BundleSpec,
) -> dict[str, Any]:
    """``case.json``; centroids are those read back from the file."""
    voxel_ml = abs(float(np.linalg.det(grid.affine[:3, :3]))) / 1000.0
    labels: dict[str, Any] = {}
    for name, value in names.items():
        place = places.get(name)
        count = place.voxels if place else 0
        labels[str(value)] = {
            "name": name,
            "voxels": count,
            "volume_ml": round(count * voxel_ml, 6),
            "centroid_mm": [round(v, 4) for v in place.centroid_mm] if place else None,
        }
    return {
        "case_id": case.case_id,
        "modality": case.modality,
        "source": case.source,
        "shape": list(grid.shape),
        "spacing": [round(side, 6) for side in spacing_of(grid.affine)],
        "window": _window(case.modality, voxels),
        "labels": labels,
        "bundle_sha256": spec.weights_sha256,
    }


def _window(modality: str, voxels: npt.NDArray[Any]) -> dict[str, float]:
    """How to show the image first: CT by a fixed window, all else by its percentiles."""
    if modality == "CT":
        return dict(_CT_WINDOW)
    stats = statistics(voxels)
    low, high = stats["p005"], stats["p995"]
    return {"centre": (low + high) / 2, "width": max(high - low, 1e-6)}
