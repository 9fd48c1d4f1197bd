"""Image series with label objects that others wrote (SEG by highdicom, RTSTRUCT tag by tag), and
what became of them."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes as terms
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from medssl.store import Store, Volume

RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)

SQUARE = [(1.5, 1.5), (4.5, 1.5), (4.5, 6.5), (1.5, 6.5)]  # mm


def oblique(*degrees: float) -> tuple[float, ...]:
    """Direction cosines of a plane turned about x, y and z."""
    a, b, c = np.radians(degrees)
    x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return tuple((z @ y @ x)[:, :2].T.ravel())


@dataclass
class Series:
    """A series on disk.

    Attributes:
        slices: its data sets in the order of the positions, along the normal.
        affine: 4x4, (column, row, slice) to LPS mm.
        heights: of the slices, where they are not at 0, 1, ... of the affine.
    """

    folder: Path
    slices: list[Dataset]
    affine: np.ndarray
    heights: Sequence[float] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """(columns, rows, slices)."""
        return self.slices[0].Columns, self.slices[0].Rows, len(self.slices)

    def points(self, voxels: np.ndarray) -> np.ndarray:
        """(n, 3) voxel coordinates -> LPS mm."""
        if len(self.heights):
            places = np.interp(voxels[:, 2], np.arange(len(self.heights)), self.heights)
            voxels = np.column_stack([voxels[:, :2], places])
        return voxels @ self.affine[:3, :3].T + self.affine[:3, 3]


def write_series(
    folder: Path,
    shape: tuple[int, int, int] = (14, 11, 8),
    *,
    spacing: tuple[float, float, float] = (0.9, 1.3, 2.5),
    orientation: Sequence[float] = AXIAL,
    origin: Sequence[float] = (-12.5, 31.0, 7.25),
    patient: str = "P1",
    seed: int = 0,
    shear: tuple[float, float] = (0.0, 0.0),
    heights: Sequence[float] = (),
    values: Callable[[np.ndarray], np.ndarray] | None = None,
    **tags: Any,
) -> Series:
    """An MR series of noise; ``spacing`` is between columns, rows and slices.

    Args:
        shear: how many columns and rows each slice is further than the one below.
        heights: where the slices lie, in ``spacing``; 0, 1, ... by default.
        values: of (..., 3) LPS mm, in place of noise.
    """
    folder.mkdir(parents=True)
    row, column = np.asarray(orientation, dtype=float).reshape(2, 3)
    affine = np.eye(4)
    affine[:3, :3] = np.stack([row, column, np.cross(row, column)], axis=1) * spacing
    affine[:3, 2] += affine[:3, :2] @ shear
    affine[:3, 3] = origin
    series = Series(folder, [], affine, heights)
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(-1, 3)
    voxels = np.random.default_rng(seed).integers(0, 900, shape).astype(np.uint16)
    if values is not None:
        voxels = values(series.points(places)).reshape(shape).astype(np.uint16)
    uids = {name: generate_uid() for name in ("Series", "Study")}
    frame = generate_uid()
    for index in range(shape[2]):
        data = Dataset()
        data.SOPClassUID, data.SOPInstanceUID = MRImageStorage, generate_uid()
        data.SeriesInstanceUID, data.StudyInstanceUID = uids["Series"], uids["Study"]
        data.FrameOfReferenceUID = frame
        data.PatientID, data.PatientName = patient, "Doe^Jane"
        data.PatientBirthDate = data.PatientSex = data.AccessionNumber = data.StudyID = ""
        data.StudyDate = data.StudyTime = data.ReferringPhysicianName = ""
        data.Modality, data.SeriesNumber, data.InstanceNumber = "MR", 1, index + 1
        data.ImageType = ["ORIGINAL", "PRIMARY", "M"]
        data.Columns, data.Rows = shape[:2]
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
        data.PixelRepresentation = 0
        data.PixelSpacing = [spacing[1], spacing[0]]
        data.SliceThickness = spacing[2]
        data.ImageOrientationPatient = [f"{v:.12f}"[:16] for v in orientation]
        (place,) = series.points(np.array([[0.0, 0.0, index]]))
        data.ImagePositionPatient = [f"{v:.10f}"[:16] for v in place]
        data.PixelData = np.ascontiguousarray(voxels[:, :, index].T).tobytes()
        for name, value in tags.items():
            setattr(data, name, value)
        save(data, folder / f"im{(index * 7) % 997:03d}")
        series.slices.append(data)
    return series


def save(data: Dataset, path: Path) -> Path:
    """Write a data set with the file meta information it needs."""
    if getattr(data, "file_meta", None) is None:
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def segmentation(
    series: Series,
    masks: Mapping[str, np.ndarray],
    kind: str = "BINARY",
    **options: Any,
) -> hd.seg.Segmentation:
    """A SEG of highdicom; masks are (column, row, slice): bool, or fractions of 0 to 1."""
    stacked = np.stack([mask.transpose(2, 1, 0) for mask in masks.values()], axis=-1)
    if kind == "LABELMAP":
        stacked = (stacked * np.arange(1, len(masks) + 1)).sum(-1).astype(np.uint8)
    elif kind == "BINARY":
        stacked = stacked.astype(np.uint8)
    descriptions = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=terms.SCT.Tissue,
            segmented_property_type=terms.SCT.Tissue,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, name in enumerate(masks, start=1)
    ]
    return hd.seg.Segmentation(
        source_images=series.slices,
        pixel_array=stacked,
        segmentation_type=kind,
        segment_descriptions=descriptions,
        series_instance_uid=generate_uid(),
        series_number=9,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="test",
        manufacturer_model_name="test",
        software_versions="1",
        device_serial_number="1",
        **options,
    )


def structure_set(
    series: Series, regions: Mapping[str, Sequence[Any]], **options: Any
) -> pydicom.Dataset:
    """An RTSTRUCT. A region is a list of contours, each (slice, (point, 2) column and row), or
    (slice, points, tags) to set tags on the contour. ``images=False`` leaves out which image each
    contour is on."""
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = RTSTRUCT, generate_uid()
    first = series.slices[0]
    for name in ("PatientID", "PatientName", "StudyInstanceUID"):
        setattr(data, name, getattr(first, name))
    data.SeriesInstanceUID, data.Modality = generate_uid(), "RTSTRUCT"
    data.StructureSetLabel = "test"
    listed, study, frame = Dataset(), Dataset(), Dataset()
    listed.SeriesInstanceUID = first.SeriesInstanceUID
    listed.ContourImageSequence = [_reference(image) for image in series.slices]
    study.RTReferencedSeriesSequence = [listed]
    frame.RTReferencedStudySequence = [study]
    frame.FrameOfReferenceUID = first.FrameOfReferenceUID
    data.ReferencedFrameOfReferenceSequence = [frame]
    data.StructureSetROISequence, data.ROIContourSequence = [], []
    for number, (name, contours) in enumerate(regions.items(), start=1):
        region, drawn = Dataset(), Dataset()
        region.ROINumber, region.ROIName = number, name
        region.ReferencedFrameOfReferenceUID = first.FrameOfReferenceUID
        drawn.ReferencedROINumber = number
        drawn.ContourSequence = [
            _contour(series, *contour, images=options.get("images", True)) for contour in contours
        ]
        data.StructureSetROISequence.append(region)
        data.ROIContourSequence.append(drawn)
    return data


def _reference(image: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = image.SOPClassUID
    item.ReferencedSOPInstanceUID = image.SOPInstanceUID
    return item


def _contour(
    series: Series,
    index: float,
    points: Any,
    tags: Mapping[str, Any] | None = None,
    *,
    images: bool,
) -> Dataset:
    item = Dataset()
    item.ContourGeometricType = "CLOSED_PLANAR"
    flat = np.asarray(points, dtype=float)
    space = series.points(np.column_stack([flat, np.full(len(flat), float(index))]))
    item.NumberOfContourPoints = len(flat)
    item.ContourData = [f"{v:.10f}"[:16] for v in space.ravel()]
    if images and 0 <= round(index) < len(series.slices):
        item.ContourImageSequence = [_reference(series.slices[round(index)])]
    for name, value in (tags or {}).items():
        setattr(item, name, value)
    return item


def some_masks(shape: tuple[int, int, int]) -> dict[str, np.ndarray]:
    """Three uneven structures that do not touch: any flip or swap of axes shows."""
    masks = {name: np.zeros(shape, dtype=bool) for name in ("liver", "aorta", "lesion 2")}
    masks["liver"][2:5, 1:3, : shape[2] // 2] = True
    masks["aorta"][7:9, 4:8, shape[2] // 2 :] = True
    masks["lesion 2"][9, 0, 1] = True
    return masks


def fates(store: Path) -> dict[str, tuple[str, str, str]]:
    """File name -> (outcome, code, detail) of what is no image."""
    with (store.with_name(store.name + ".private") / "ledger.csv").open() as stream:
        rows = {Path(row["real_path"]).name: row for row in csv.DictReader(stream)}
    return {
        name: (row["outcome"], row["code"], row["detail"])
        for name, row in rows.items()
        if not name.startswith(("im", "IM"))
    }


def codes(store: Path) -> dict[str, tuple[str, str]]:
    """File name -> (outcome, code) of what is no image."""
    return {name: fate[:2] for name, fate in fates(store).items()}


def volumes_of(store: Store) -> list[Volume]:
    """The volumes of a store that was opened."""
    return [store[volume_id] for volume_id in store]


def as_stored(array: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """(x, y, z) on an LPS affine as the store keeps it, by nibabel."""
    image = nib.Nifti1Image(array.astype(np.int16), np.diag([-1, -1, 1, 1]) @ affine)
    return np.asarray(nib.as_closest_canonical(image).dataobj)
