"""DICOM series made in memory, with the truth about them known."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

from medssl.ingest.run import ingest


def slice_dataset(
    pixels: np.ndarray,
    *,
    position: tuple[float, ...] = (0.0, 0.0, 0.0),
    orientation: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    spacing: tuple[float, float] = (1.0, 1.0),
    series: str = "1.2.3",
    modality: str = "MR",
    bits: int = 16,
    **tags: Any,
) -> pydicom.Dataset:
    """One classic single-frame slice; ``tags`` are set last, and None deletes one."""
    data = pydicom.Dataset()
    data.SOPClassUID = CTImageStorage if modality == "CT" else MRImageStorage
    data.SOPInstanceUID = generate_uid()
    data.SeriesInstanceUID, data.StudyInstanceUID = series, "1.2"
    data.FrameOfReferenceUID = "1.2.9"
    data.PatientID, data.PatientName = "P1", "Doe^Jane"
    data.Modality = modality
    data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    data.Rows, data.Columns = pixels.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, bits, bits - 1
    data.PixelRepresentation = int(pixels.dtype == np.int16)
    data.PixelSpacing = [f"{v:.10g}" for v in spacing]
    data.ImageOrientationPatient = [f"{v:.12f}"[:16] for v in orientation]
    data.ImagePositionPatient = [f"{v:.12f}"[:16] for v in position]
    if modality == "CT":
        data.RescaleSlope, data.RescaleIntercept = "1", "-1024"
    data.PixelData = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    for name, value in tags.items():
        if value is None:
            delattr(data, name)
        else:
            setattr(data, name, value)
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return data


@pytest.fixture(scope="session")
def make_slice() -> Callable[..., pydicom.Dataset]:
    return slice_dataset


@pytest.fixture(scope="session")
def write_stack() -> Callable[..., list[Path]]:
    """Write slices 0, 1, ... of a stack along z, 2 mm apart, under names in another order."""

    def write(
        folder: Path,
        count: int = 4,
        *,
        heights: list[float] | None = None,
        change: Callable[[int, pydicom.Dataset], None] | None = None,
        **common: Any,
    ) -> list[Path]:
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for i, z in enumerate(heights or [2.0 * i for i in range(count)]):
            pixels = (np.arange(12, dtype=np.uint16).reshape(3, 4) + 100 * i).astype(np.uint16)
            data = slice_dataset(pixels, position=(0.0, 0.0, z), **common)
            if change is not None:
                change(i, data)
            paths.append(folder / f"im{(i * 7) % 10}_{i}")
            data.save_as(paths[-1], enforce_file_format=True)
        return paths

    return write


@pytest.fixture
def ingested(tmp_path: Path) -> Callable[..., tuple[Any, dict[str, tuple[str, str]]]]:
    """Ingest ``in`` into ``store``: the summary, and (outcome, code) by real path."""

    def run(**options: Any) -> tuple[Any, dict[str, tuple[str, str]]]:
        summary = ingest(tmp_path / "in", tmp_path / "store", **options)
        with (tmp_path / "store.private" / "ledger.csv").open(encoding="utf-8") as stream:
            table = list(csv.DictReader(stream))
        assert summary.found == sum(summary.counts.values()) == len(table)
        return summary, {row["real_path"]: (row["outcome"], row["code"]) for row in table}

    return run


@pytest.fixture
def root(tmp_path):
    """Where the input goes."""
    return tmp_path / "in"


@pytest.fixture
def out(tmp_path):
    """Where the store goes."""
    return tmp_path / "store"
