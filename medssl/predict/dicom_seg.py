"""Writes a label map as a DICOM Segmentation that refers to the slices it was made from.

The only module that imports highdicom. The frames get their positions from the source slices'
own headers, not from the affine of the label map, so that the two are checked against each other
twice: here, where they must agree to index the slices, and in `verify`.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl import __version__
from medssl.errors import MedsslError
from medssl.predict.verify import LPS_TO_RAS, plane_affine

# How far, in voxels, a slice may lie from its place on the label map's grid: near enough to be
# certain which voxels are meant. `verify` then judges the distance in mm.
GRID_TOLERANCE = 0.25

# Attributes that DICOM wants present but allows to be empty (type 2); real files lack them.
_MAY_BE_EMPTY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)
_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "PixelSpacing")

_COLOURS = ((230, 85, 13), (49, 130, 189), (49, 163, 84), (197, 27, 138), (254, 217, 71))


@dataclass(frozen=True)
class Origin:
    """Which model made a segmentation, as it is written into the object."""

    bundle_sha256: str
    method: str


def write_seg(
    path: Path,
    files: Sequence[Path],
    labels: npt.NDArray[np.uint8],
    affine: npt.NDArray[np.float64],
    label_names: Mapping[int, str],
    origin: Origin,
) -> dict[str, int]:
    """Write the labels that occur as a binary DICOM SEG.

    One segment per label that has voxels, numbered from 1 in the order of the label values; a
    label that does not occur has no segment, since a segment without frames is what many viewers
    fail on. Segments carry the bundle's free-text name as SegmentLabel and the generic code
    (85756007, SCT, "Tissue"), because a name alone does not say which coded concept is meant.

    Args:
        path: the file to write.
        files: the single-frame source slices of one series, any order.
        labels: (x, y, z) uint8 on the grid of the series, at least one voxel not 0.
        affine: 4x4, voxel index of `labels` to RAS mm.
        label_names: label value -> name.
        origin: the bundle that predicted.

    Returns:
        SegmentLabel -> label value.

    Raises:
        MedsslError: PREDICTION_MOVED where the slices do not lie on the label map's grid;
            DICOM_TAG_MISSING or DICOM_TAG_INVALID where the source lacks what a SEG needs.
    """
    with _no_identifying_messages():
        sources = _read_sources(files)
        frames = labels_on_slices(labels, affine, sources)
        values = [int(value) for value in np.unique(frames) if value]
        names = segment_names(values, label_names)
        numbers = np.zeros(256, np.uint8)
        numbers[values] = np.arange(1, len(values) + 1)
        segmentation = _build(sources, numbers[frames], list(names), affine, origin)
        segmentation.save_as(path)
    return names


def labels_on_slices(
    labels: npt.NDArray[np.uint8],
    affine: npt.NDArray[np.float64],
    sources: Sequence[Any],
) -> npt.NDArray[np.uint8]:
    """The label plane of each source slice, (slice, row, column), by the slice's own header.

    Raises:
        MedsslError: PREDICTION_MOVED where a slice is not a plane of the label map's grid, or
            slices and planes are not one to one.
    """
    to_voxel = np.linalg.inv(affine)
    planes, seen = [], set()
    for source in sources:
        plane = plane_affine(
            source.ImagePositionPatient, source.ImageOrientationPatient, source.PixelSpacing
        )
        index = to_voxel @ LPS_TO_RAS @ plane
        axes, start = _grid_axes(index, labels.shape, (int(source.Columns), int(source.Rows)))
        column_axis, row_axis = axes
        slice_axis = 3 - column_axis - row_axis
        seen.add(start[slice_axis])
        taken = np.take(labels, start[slice_axis], axis=slice_axis)
        taken = taken if row_axis < column_axis else taken.T
        row_step = 1 if index[row_axis, 1] > 0 else -1
        column_step = 1 if index[column_axis, 0] > 0 else -1
        planes.append(taken[::row_step, ::column_step])
        depth = labels.shape[slice_axis]
    if len(seen) != len(sources) or len(seen) != depth:
        raise _off_grid(f"{len(sources)} slices lie on {len(seen)} of {depth} planes")
    return np.stack(planes)


def segment_names(values: Sequence[int], label_names: Mapping[int, str]) -> dict[str, int]:
    """A valid and unique SegmentLabel (LO, at most 64 characters) for each label value."""
    names: dict[str, int] = {}
    for value in values:
        name = str(label_names.get(value, "")).replace("\\", "/").strip()[:60]
        name = name or f"label {value}"
        names[name if name not in names else f"{name} {value}"] = value
    return names


def _grid_axes(
    index: npt.NDArray[np.float64], shape: Sequence[int], size: tuple[int, int]
) -> tuple[tuple[int, int], list[int]]:
    """Which label axes the columns and rows of a slice run along, and where pixel (0, 0) lies.

    `index` maps (column, row, 0, 1) to a voxel; each in-plane step must be one whole voxel along
    one axis, and the first pixel must be a corner of its plane.
    """
    axes: list[int] = []
    start = [round(float(value)) for value in index[:3, 3]]
    drift = float(np.abs(index[:3, 3] - start).max())
    for step, length in zip(index[:3, :2].T, size, strict=True):
        axis = int(np.abs(step).argmax())
        whole = np.zeros(3)
        whole[axis] = np.sign(step[axis])
        # An error per step adds up to the far end of the slice.
        drift = max(drift, float(np.abs(step - whole).max()) * (length - 1))
        corner = 0 if step[axis] > 0 else shape[axis] - 1
        if shape[axis] != length or start[axis] != corner:
            raise _off_grid("a slice does not cover a plane of the label map")
        axes.append(axis)
    if axes[0] == axes[1] or drift > GRID_TOLERANCE:
        raise _off_grid(f"a slice lies {drift:.3f} voxels off the grid of the label map")
    slice_axis = 3 - axes[0] - axes[1]
    if not 0 <= start[slice_axis] < shape[slice_axis]:
        raise _off_grid("a slice lies outside the label map")
    return (axes[0], axes[1]), start


def _off_grid(what: str) -> MedsslError:
    return MedsslError(
        "PREDICTION_MOVED", what, fix="the case was not kept; report it with its geometry"
    )


def _read_sources(files: Sequence[Path]) -> list[Any]:
    """The headers of the source slices, completed by the empty values that DICOM allows."""
    import pydicom

    sources = [pydicom.dcmread(file, stop_before_pixels=True) for file in files]
    for source in sources:
        missing = [name for name in _NEEDED if not source.get(name)]
        if missing:
            raise MedsslError(
                "DICOM_TAG_MISSING",
                f"a slice has no {missing[0]}, which a DICOM SEG must repeat",
                fix="complete the series, or predict on it as NIfTI",
            )
        for name in _MAY_BE_EMPTY:
            if name not in source:
                setattr(source, name, None)
        if source.PatientSex not in ("M", "F", "O", "", None):
            source.PatientSex = None
    return sources


def _build(
    sources: Sequence[Any],
    frames: npt.NDArray[np.uint8],
    names: Sequence[str],
    affine: npt.NDArray[np.float64],
    origin: Origin,
) -> Any:
    """The highdicom object of frames (slice, row, column) whose values number `names` from 1."""
    import highdicom as hd

    normal = plane_affine([0, 0, 0], sources[0].ImageOrientationPatient, [1, 1])[:3, 2]
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    across = np.abs((LPS_TO_RAS[:3, :3] @ normal) @ (affine[:3, :3] / steps)).argmax()
    thickness = float(steps[across])
    try:
        return hd.seg.Segmentation(
            source_images=sources,
            pixel_array=frames,
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=_descriptions(names, origin),
            series_instance_uid=hd.UID(),
            series_number=int(sources[0].get("SeriesNumber") or 0) % 10_000 + 10_000,
            sop_instance_uid=hd.UID(),
            instance_number=1,
            manufacturer="medssl",
            manufacturer_model_name="medssl predict",
            software_versions=__version__,
            device_serial_number=origin.bundle_sha256[:16] or "none",
            pixel_measures=hd.PixelMeasuresSequence(
                [float(value) for value in sources[0].PixelSpacing], thickness, thickness
            ),
            content_label="MEDSSL",
            content_description="Automatic segmentation, not reviewed",
            series_description="medssl segmentation (automatic, not reviewed)",
        )
    # Their text can quote the header, so only the kind of failure is passed on.
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise MedsslError(
            "DICOM_TAG_INVALID",
            f"the header of the series cannot be repeated in a DICOM SEG ({type(error).__name__})",
            fix="correct the patient, study and frame-of-reference attributes of the series",
        ) from None


def _descriptions(names: Sequence[str], origin: Origin) -> list[Any]:
    """One segment description per name, in order, with the model as the algorithm."""
    import highdicom as hd
    from pydicom.sr.codedict import codes

    algorithm = hd.AlgorithmIdentificationSequence(
        name="medssl",
        family=codes.cid7162.ArtificialIntelligence,
        version=f"{__version__}+{origin.bundle_sha256[:12]}",
        source="medssl bundle",
        parameters={"bundle_sha256": origin.bundle_sha256, "method": origin.method},
    )
    return [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=codes.SCT.Tissue,
            segmented_property_type=codes.SCT.Tissue,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
            display_color=hd.color.CIELabColor.from_rgb(*_COLOURS[(number - 1) % len(_COLOURS)]),
        )
        for number, name in enumerate(names, start=1)
    ]


@contextmanager
def _no_identifying_messages() -> Iterator[None]:
    """Silence warnings and log lines that quote the patient's attributes."""
    loggers = [logging.getLogger(name) for name in ("highdicom", "pydicom")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
