"""A results folder as `medssl predict` writes it, made of synthetic patients.

`python tests/apps/review/synthetic_results.py OUT` makes one to look at.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np

BUNDLE = "ab" * 32
AffineLike = np.ndarray


def write_case(
    out: Path,
    case_id: str,
    image: np.ndarray,
    segmentation: np.ndarray,
    affine: AffineLike,
    names: dict[int, str],
    modality: str = "CT",
    orientation: str = "RAS",
    window: tuple[float, float] | None = None,
) -> None:
    """Write one case; the RAS arrays (x, y, z) are stored turned to `orientation`."""
    folder = out / "cases" / case_id
    folder.mkdir(parents=True)
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(orientation)
    )
    for name, array in {"image": image, "segmentation": segmentation}.items():
        nib.Nifti1Image(array, affine).as_reoriented(turn).to_filename(folder / f"{name}.nii.gz")
    voxel_ml = abs(np.linalg.det(affine[:3, :3])) / 1000
    labels = {}
    for value, name in names.items():
        where = np.argwhere(segmentation == value)
        centroid = (affine @ [*where.mean(axis=0), 1])[:3].tolist() if len(where) else None
        volume = len(where) * voxel_ml
        labels[str(value)] = {
            "name": name,
            "voxels": len(where),
            "volume_ml": volume,
            "centroid_mm": centroid,
        }
    case = {
        "case_id": case_id,
        "modality": modality,
        "source": "nifti",
        "shape": list(image.shape),
        "spacing": np.linalg.norm(affine[:3, :3], axis=0).tolist(),
        "window": {"centre": window[0], "width": window[1]} if window else None,
        "labels": labels,
        "bundle_sha256": BUNDLE,
    }
    (folder / "case.json").write_text(json.dumps(case))


def write_status(out: Path, cases: list[str], rejected: dict[str, tuple[str, str]]) -> None:
    """Write status.json for written cases and {case_id: (code, detail)} rejected ones."""
    written = [
        {"case_id": case, "outcome": "written", "code": "", "detail": "", "files": []}
        for case in cases
    ]
    refused = [
        {"case_id": case, "outcome": "rejected", "code": code, "detail": detail, "files": []}
        for case, (code, detail) in rejected.items()
    ]
    status = {
        "format_version": 1,
        "state": "done",
        "exit_code": 3 if rejected else 0,
        "found": len(written) + len(refused),
        "written": len(written),
        "rejected": len(refused),
        "bundle_sha256": BUNDLE,
        "task": "segmentation",
        "started": "2025-01-01T10:00:00+00:00",
        "finished": "2025-01-01T10:01:00+00:00",
        "cases": written + refused,
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "status.json").write_text(json.dumps(status))


def small_results(out: Path) -> Path:
    """Three tiny CT cases (6, 8, 10 voxels, stored RAS, LPS and PIR) and one rejected input."""
    rng = np.random.default_rng(0)
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    names = {1: "liver", 2: "lesion"}
    cases = ["case-a", "case-b", "case-c"]
    for number, (case_id, orientation) in enumerate(zip(cases, ("RAS", "LPS", "PIR"), strict=True)):
        image = rng.integers(-100, 200, (6, 8, 10)).astype(np.int16)
        segmentation = np.zeros((6, 8, 10), dtype=np.uint8)
        segmentation[1:4, 2:5, 3:6] = 1
        segmentation[4, 6, 7 + number % 2] = 2
        write_case(out, case_id, image, segmentation, affine, names, orientation=orientation)
    write_status(
        out, cases, {"case-x": ("SLICE_MISSING", "A slice is missing between two others.")}
    )
    return out


def phantom_results(out: Path, patients: int = 6) -> Path:
    """Torso-like CT and head-like MR patients with their true labels shifted by a voxel."""
    from medssl.phantom import head, torso

    cases = []
    for seed in range(patients):
        make, orientation = (torso, "LPS") if seed % 3 else (head, "RPI")
        patient = make(seed)
        guess = np.roll(patient.label[0], seed % 2, axis=0)
        case_id = f"{patient.modality.lower()}-{seed:04d}-{'5e8c1f90'[seed % 4 :]}"
        window = (40.0, 400.0) if patient.modality == "CT" else None
        write_case(
            out,
            case_id,
            patient.image[0],
            guess,
            patient.affine,
            patient.label_names,
            patient.modality,
            orientation,
            window,
        )
        cases.append(case_id)
    rejected = {
        "s-77a0": ("SLICE_MISSING", "A slice is missing between two others."),
        "s-91bc": ("LOCALIZER", "A localizer or scout, not an image to predict on."),
    }
    write_status(out, cases, rejected)
    return out


if __name__ == "__main__":
    phantom_results(Path(sys.argv[1]), patients=12)
