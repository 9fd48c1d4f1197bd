"""Damaged series whose truth is known, and a judge of the volumes that are made of them.

The intensity of a voxel is a ramp over where it lies in the patient, plus a number that only its
slice has. So a volume is judged by its own affine, on whatever grid it is: a moved, stretched or
invented slice shows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RLELossless, generate_uid

ROWS, COLUMNS, SLICES = 16, 12, 12
SPACING = (0.8, 0.7, 2.5)  # between rows, columns, slices, mm
OWN = np.random.default_rng(7).integers(0, 800, SLICES)  # what only a slice has
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
SHEAR = 0.3  # mm along y for a mm along z, of the tilted series

Series = list[pydicom.Dataset]


def intensity(y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """The truth at LPS millimetres."""
    index = np.clip(np.rint(z / SPACING[2]).astype(int), 0, SLICES - 1)
    return 200 + 4 * y + 6 * z + OWN[index]


def one_slice(k: int, shear: float = 0.0, moved: float = 0.0) -> pydicom.Dataset:
    """Slice k of an axial CT, lying so many mm too high."""
    z = SPACING[2] * k + moved
    y = shear * z + SPACING[0] * np.arange(ROWS)[:, None] + np.zeros((1, COLUMNS))
    data = pydicom.Dataset()
    data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, generate_uid()
    data.StudyInstanceUID, data.SeriesInstanceUID = "1.2.1", "1.2.3"
    data.FrameOfReferenceUID, data.PatientID, data.PatientName = "1.2.4", "P1", "Made^Up"
    data.Modality, data.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    data.Manufacturer = "phantom"
    data.SeriesNumber, data.SeriesDescription, data.InstanceNumber = 3, "chest", k + 1
    data.AcquisitionNumber = 1
    data.StudyDate, data.StudyTime, data.AcquisitionTime = "20200101", "120000", "120000"
    data.Rows, data.Columns = ROWS, COLUMNS
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
    data.RescaleSlope, data.RescaleIntercept = "1", "0"
    data.PixelSpacing = list(SPACING[:2])
    data.SliceThickness = data.SpacingBetweenSlices = SPACING[2]
    data.ImageOrientationPatient = list(AXIAL)
    data.ImagePositionPatient = [0.0, round(shear * z, 4), z]
    data.PixelData = intensity(y, np.full_like(y, z)).astype("<i2").tobytes()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return data


def series(kept: Sequence[int] = range(SLICES), shear: float = 0.0, **tags: object) -> Series:
    """Slices of the phantom, with tags set on each."""
    slices = [one_slice(k, shear) for k in kept]
    for data in slices:
        for name, value in tags.items():
            setattr(data, name, value)
    return slices


def write(folder: Path, slices: Series) -> None:
    """One file each."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, data in enumerate(slices):
        data.save_as(folder / f"im{index:02d}.dcm", enforce_file_format=True)


def _without(*gone: int) -> Series:
    return series([k for k in range(SLICES) if k not in gone])


def _one_changed(k: int, **tags: object) -> Series:
    slices = series()
    for name, value in tags.items():
        setattr(slices[k], name, value)
    return slices


def _planes() -> Series:
    """The phantom, and three sagittal slices of the same patient under its series UID."""
    more = []
    for k in range(3):
        data = one_slice(0)
        y = SPACING[0] * np.arange(COLUMNS)[None, :]
        z = SPACING[2] * np.arange(ROWS)[:, None]
        inside = np.where(z <= SPACING[2] * (SLICES - 1), intensity(y + 0 * z, z + 0 * y), 0)
        data.PixelSpacing, data.InstanceNumber = [SPACING[2], SPACING[0]], 13 + k
        data.ImageOrientationPatient = list(SAGITTAL)
        data.ImagePositionPatient = [2.5 * k, 0.0, 0.0]
        data.PixelData = inside.astype("<i2").tobytes()
        more.append(data)
    return [*series(), *more]


def _bomb() -> Series:
    slices = series()
    for data in slices:
        data.compress(RLELossless, generate_instance_uid=False)
        data.Rows = data.Columns = 60_000
    return slices


def _duplicate_file(folder: Path) -> None:
    write(folder, series())
    (folder / "copy.dcm").write_bytes((folder / "im05.dcm").read_bytes())


def _truncated(folder: Path) -> None:
    write(folder, series())
    file = folder / "im05.dcm"
    file.write_bytes(file.read_bytes()[:-100])


def _bad_text(folder: Path) -> None:
    write(folder, series(PixelSpacing=[0.25, 0.25]))
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes().replace(b"0.25\\0.25", b"abcd\\efgh"))


def _no_slices(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "readme.txt").write_text("nothing here")


def _made(slices: Callable[[], Series]) -> Callable[[Path], None]:
    return lambda folder: write(folder, slices())


@dataclass(frozen=True)
class Damage:
    """A folder with something wrong in it.

    Attributes:
        name: for the table.
        write: makes the folder.
        right: how many volumes a correct reader makes of it; 0 where there is no correct one.
        code: what medssl's ledger says, "" where it uses everything.
        exit_code: of ``medssl ingest``.
    """

    name: str
    write: Callable[[Path], None]
    right: int
    code: str
    exit_code: int


def _wrong_tags() -> Series:
    return series(SliceThickness=1.0, SpacingBetweenSlices=1.0)


DAMAGES = [
    Damage("nothing wrong", _made(series), 1, "", 0),
    Damage("a middle slice is missing", _made(lambda: _without(5)), 0, "SLICE_MISSING", 4),
    Damage(
        "three end slices are missing, the header states how many there were",
        _made(lambda: series(range(9), ImagesInAcquisition=12)),
        0,
        "SLICES_FEWER_THAN_STATED",
        4,
    ),
    Damage(
        "three end slices are missing, a sibling series has them",
        _made(lambda: [*series(), *series(range(9), SeriesInstanceUID="1.2.5", SeriesNumber=4)]),
        1,
        "SLICES_FEWER_THAN_SIBLING",
        3,
    ),
    Damage("a file is there twice", _duplicate_file, 1, "DUPLICATE", 0),
    Damage(
        "two different slices at one position",
        _made(lambda: [*series(), *series([5], InstanceNumber=13)]),
        0,
        "SLICE_DUPLICATE",
        4,
    ),
    Damage("a file is truncated", _truncated, 0, "FILE_TRUNCATED", 4),
    Damage("the gantry is tilted", _made(lambda: series(shear=SHEAR)), 1, "", 0),
    Damage(
        "the header states a tilt that the positions do not have",
        _made(lambda: series(GantryDetectorTilt=16.7)),
        0,
        "GANTRY_TILT",
        4,
    ),
    Damage(
        "the spacing is uneven",
        _made(lambda: [*_without(5), one_slice(5, moved=1.0)]),
        0,
        "SPACING_UNEVEN",
        4,
    ),
    Damage("two orientations in one series", _made(_planes), 2, "", 0),
    Damage(
        "one volume under two series UIDs",
        _made(
            lambda: [
                *series(range(0, SLICES, 2)),
                *series(range(1, SLICES, 2), SeriesInstanceUID="1.2.5"),
            ]
        ),
        0,
        "SLICE_MISSING",
        4,
    ),
    Damage(
        "two patients in one series",
        _made(lambda: _one_changed(5, PatientID="P2", PixelData=series()[6].PixelData)),
        0,
        "SERIES_MIXED",
        4,
    ),
    Damage(
        "two patients with one series number and description",
        _made(
            lambda: [
                *series(),
                *series(
                    PatientID="P2",
                    StudyInstanceUID="1.3.1",
                    SeriesInstanceUID="1.3.3",
                    FrameOfReferenceUID="1.3.4",
                    PixelSpacing=[SPACING[0], 0.75],
                ),
            ]
        ),
        2,
        "",
        0,
    ),
    Damage("the slice spacing tags are wrong", _made(_wrong_tags), 1, "", 0),
    Damage(
        "the pixel spacing is zero",
        _made(lambda: series(PixelSpacing=[0, 0])),
        0,
        "SPACING_INVALID",
        4,
    ),
    Damage(
        "a position is not a number",
        _made(lambda: _one_changed(5, ImagePositionPatient=["0", "0", "NaN"])),
        0,
        "DICOM_TAG_INVALID",
        4,
    ),
    Damage("text where a number belongs", _bad_text, 0, "DICOM_TAG_INVALID", 4),
    Damage("no slices", _no_slices, 0, "NOT_AN_IMAGE", 4),
    Damage(
        "rows and columns are absurd",
        _made(lambda: series(Rows=60_000, Columns=60_000)),
        0,
        "FILE_TRUNCATED",
        4,
    ),
    Damage("a decompression bomb", _made(_bomb), 0, "PIXELS_TOO_LARGE", 4),
    Damage(
        "a path in the series UID",
        _made(lambda: series(SeriesInstanceUID="../../../evil")),
        1,
        "",
        0,
    ),
]


def is_right(voxels: np.ndarray, affine: np.ndarray) -> bool:
    """Whether a volume is the phantom: every voxel true to its place within the width of one, and
    nothing missing.

    Args:
        voxels: (x, y, z), on any grid; 0 and the lowest value are padding.
        affine: 4x4, to RAS mm.
    """
    if voxels.ndim != 3 or not np.isfinite(affine).all():
        return False
    grid = np.stack(np.meshgrid(*map(np.arange, voxels.shape), indexing="ij"), -1)
    mm = grid @ affine[:3, :3].T + affine[:3, 3]
    y, z = -mm[..., 1], mm[..., 2]
    filled = (voxels != 0) & (voxels != voxels.min())
    if not filled.any() or np.abs(z / SPACING[2] - np.rint(z / SPACING[2]))[filled].max() > 0.01:
        return False
    wrong = np.abs(voxels - intensity(y, z))[filled].max() > 4
    found = set(np.rint(z[filled] / SPACING[2]).astype(int).tolist())
    return not wrong and found == set(range(SLICES))
