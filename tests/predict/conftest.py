"""Small DICOM series with known geometry, made here and read by what is tested."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid
from torch import nn

from medssl.bundle import Architecture, Bundle, BundleSpec, InputContract, TargetSpec
from medssl.networks import build_model
from medssl.store.intensity import IntensityContract

sys.path.insert(0, str(Path(__file__).parent))  # for predict_runs

PATIENT_NAME = "Findme^Never"


@dataclass
class MadeSeries:
    """A series on disk and the truth about it.

    Attributes:
        files: the slices in ascending position along the slice axis.
        voxels: (column, row, slice) int16.
        affine: 4x4, (column, row, slice) to RAS mm.
        uid: the SeriesInstanceUID.
    """

    files: list[Path]
    voxels: np.ndarray
    affine: np.ndarray
    uid: str


def _rotation(degrees: tuple[float, float, float]) -> np.ndarray:
    a, b, c = np.radians(degrees)
    x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return z @ y @ x


MakeSeries = Callable[..., MadeSeries]


@pytest.fixture
def make_series() -> MakeSeries:
    """A function that writes one MR series into a folder and returns the truth about it."""

    def make(
        folder: Path,
        *,
        shape: tuple[int, int, int] = (20, 14, 8),
        spacing: tuple[float, float, float] = (0.9, 1.3, 2.5),
        angles: tuple[float, float, float] = (0.0, 0.0, 0.0),
        origin: tuple[float, float, float] = (-12.5, 31.0, 7.25),
        descending: bool = False,
        modality: str = "MR",
        seed: int = 0,
        level: int = 100,
    ) -> MadeSeries:
        folder.mkdir(parents=True, exist_ok=True)
        voxels = np.random.default_rng(seed).integers(0, level, shape).astype(np.int16)
        turn = _rotation(angles)
        affine_lps = np.eye(4)
        affine_lps[:3, :3] = turn * np.array(spacing)
        if descending:
            affine_lps[:3, 2] *= -1
        affine_lps[:3, 3] = origin
        uid, study, frame = generate_uid(), generate_uid(), generate_uid()
        files = []
        for index in range(shape[2]):
            meta = FileMetaDataset()
            meta.MediaStorageSOPClassUID = MRImageStorage
            meta.MediaStorageSOPInstanceUID = generate_uid()
            meta.TransferSyntaxUID = ExplicitVRLittleEndian
            ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
            ds.SOPClassUID, ds.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
            ds.PatientName, ds.PatientID = PATIENT_NAME, "FINDME-4711"
            ds.PatientBirthDate, ds.PatientSex = "19700101", "O"
            ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study, uid, frame
            ds.StudyDate, ds.StudyTime, ds.StudyID = "20200101", "101010", "1"
            ds.AccessionNumber, ds.ReferringPhysicianName = "A1", ""
            ds.Modality, ds.SeriesNumber, ds.InstanceNumber = modality, 3, shape[2] - index
            ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
            ds.Manufacturer = "test"
            ds.Columns, ds.Rows = shape[0], shape[1]
            ds.PixelSpacing = [f"{spacing[1]:.6f}", f"{spacing[0]:.6f}"]
            ds.SliceThickness = f"{spacing[2]:.6f}"
            position = affine_lps[:3, 3] + index * affine_lps[:3, 2]
            ds.ImagePositionPatient = [f"{v:.8f}"[:16] for v in position]
            ds.ImageOrientationPatient = [f"{v:.10f}"[:16] for v in turn[:, :2].T.ravel()]
            ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
            ds.BitsAllocated = ds.BitsStored = 16
            ds.HighBit, ds.PixelRepresentation = 15, 1
            ds.PixelData = np.ascontiguousarray(voxels[:, :, index].T).tobytes()
            # File names say nothing of the order, as on a real disc.
            path = folder / f"{(index * 7919) % 1009:04d}.dcm"
            pydicom.dcmwrite(path, ds, enforce_file_format=True)
            files.append(path)
        to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])
        return MadeSeries(files, voxels, to_ras @ affine_lps, str(uid))

    return make


class Levels(nn.Module):
    """Labels by intensity: the class whose level is nearest, so that the truth is known."""

    LEVELS = (-1.0, 0.0, 1.0)

    def __init__(self) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([-((x[:, :1] - level) ** 2) for level in self.LEVELS], dim=1)


def level_truth(voxels: np.ndarray) -> np.ndarray:
    """What `Levels` says under a window of 0 .. 200: below 50, up to 150, above."""
    values = np.clip(voxels.astype(np.float64), 0, 200) / 100 - 1
    return np.abs(values[..., None] - np.array(Levels.LEVELS)).argmin(-1).astype(np.uint8)


@pytest.fixture
def truth_of() -> Callable[[np.ndarray], np.ndarray]:
    return level_truth


@pytest.fixture
def make_bundle(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A function that saves a small bundle; its model is `Levels` unless `real` is asked for."""

    def make(
        path: Path,
        *,
        kind: str = "segmentation",
        dims: int = 3,
        modalities: tuple[str, ...] = (),
        real: bool = False,
        classes: int = 3,
        label_names: dict[int, str] | None = None,
    ) -> Path:
        task = None if kind == "encoder" else {"kind": kind, "classes": classes}
        architecture = Architecture.model_validate(
            {
                "encoder": {
                    "name": "unet",
                    "dims": dims,
                    "in_channels": 1,
                    "options": {"widths": [4, 8]},
                },
                "task": task,
            }
        )
        torch.manual_seed(0)
        model = build_model(architecture.model_dump())
        names = label_names or {1: "grey", 2: "bright"}
        Bundle.save(
            path,
            model,
            BundleSpec(
                kind=kind,
                architecture=architecture,
                contract=InputContract(
                    dims=dims,
                    channels=1,
                    patch_size=[16] * dims,
                    modalities=list(modalities),
                    intensity=IntensityContract(scheme="window", low=0.0, high=200.0),
                ),
                method="test",
                label_names=names if kind == "segmentation" else {},
                classes=["well", "ill"] if kind == "classification" else [],
                target=TargetSpec(name="age", mean=60.0, std=10.0)
                if kind == "regression"
                else None,
            ),
        )
        if not real:
            monkeypatch.setattr(Bundle, "model", lambda self: Levels())
        return path

    return make
