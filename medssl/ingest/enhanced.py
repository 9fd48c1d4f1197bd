"""Enhanced multi-frame images: a slice for every frame.

The functional groups of a frame lie in the Per-frame Functional Groups Sequence, or in the shared
one where all frames have the same (DICOM PS3.3 C.7.6.16).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydicom
from pydicom.tag import Tag

from medssl.errors import MedsslError
from medssl.ingest.geometry import SlicePose
from medssl.ingest.headers import (
    Marks,
    SliceHeader,
    file_fields,
    rescaling,
)
from medssl.ingest.image_type import refuse_image_type
from medssl.ingest.tags import items, joined, number, numbers, required, text, value, words

_FRAME_TYPES = (
    "MRImageFrameTypeSequence",
    "CTImageFrameTypeSequence",
    "PETFrameTypeSequence",
)
# Dimensions that only number places in space: they do not tell volumes apart.
_PLACES = frozenset({Tag("InStackPositionNumber"), Tag("ImagePositionPatient")})


class _Frame:
    """The functional groups of one frame, by the name of their sequence."""

    def __init__(self, shared: pydicom.Dataset | None, own: pydicom.Dataset) -> None:
        self._shared, self._own = shared, own

    def group(self, *names: str) -> pydicom.Dataset:
        """The item of the first of these groups that is there; empty where none is."""
        for name in names:
            for source in (self._own, self._shared):
                found = [] if source is None else items(source, name)
                if len(found) > 1:
                    raise MedsslError("DICOM_TAG_INVALID", f"{name} has several items")
                if found:
                    return found[0]
        return pydicom.Dataset()


def enhanced_slices(
    path: Path,
    data: pydicom.Dataset,
    allow: Collection[str] = (),
    accepted: tuple[str, ...] = (),
) -> list[SliceHeader]:
    """One slice for each frame, in the order of the file.

    Args:
        path: the file.
        data: its header.
        allow: codes of defects to accept in a frame.
        accepted: those accepted of the file.

    Raises:
        MedsslError: DICOM_TAG_MISSING, DICOM_TAG_INVALID, PIXEL_FORMAT_UNSUPPORTED, LOCALIZER,
            DERIVED.
    """
    fields = file_fields(data)
    frames = int(required(data, "NumberOfFrames"))
    own = items(data, "PerFrameFunctionalGroupsSequence")
    if frames < 1 or len(own) != frames:
        raise MedsslError(
            "DICOM_TAG_INVALID", f"{len(own)} frames are described and {frames} are stated"
        )
    shared = items(data, "SharedFunctionalGroupsSequence")
    dimensions = [_pointer(item) for item in items(data, "DimensionIndexSequence")]
    slices = []
    for index, one in enumerate(own):
        frame = _Frame(shared[0] if shared else None, one)
        kind = frame.group(*_FRAME_TYPES)
        defects = {*accepted, *refuse_image_type(words(kind, "FrameType"), allow)}
        marks = (*_marks(frame, kind, dimensions), ("instance", str(fields["instance"])))
        header = _slice(path, fields, frame, marks)
        slices.append(replace(header, frame=index, frames=frames, defects=tuple(sorted(defects))))
    return slices


def _pointer(dimension: pydicom.Dataset) -> int:
    found = value(dimension, "DimensionIndexPointer")
    if found is None:
        raise MedsslError("DICOM_TAG_MISSING", "DimensionIndexPointer is absent")
    return int(found)


def _slice(path: Path, fields: dict[str, Any], frame: _Frame, marks: Marks) -> SliceHeader:
    measures = frame.group("PixelMeasuresSequence")
    pose = SlicePose(
        orientation=numbers(frame.group("PlaneOrientationSequence"), "ImageOrientationPatient", 6),
        position=numbers(frame.group("PlanePositionSequence"), "ImagePositionPatient", 3),
        pixel_spacing=numbers(measures, "PixelSpacing", 2),
        shape=fields["picture"],
    )
    transformation = frame.group("PixelValueTransformationSequence")
    slope, intercept = rescaling(transformation, str(fields["modality"]))
    return SliceHeader(
        path=path,
        pose=pose,
        slope=slope,
        intercept=intercept,
        thickness=number(measures, "SliceThickness"),
        declared_spacing=number(measures, "SpacingBetweenSlices"),
        marks=marks,
        kind="enhanced",
        **fields,
    )


def _marks(frame: _Frame, kind: pydicom.Dataset, dimensions: list[int]) -> Marks:
    content = frame.group("FrameContentSequence")
    diffusion = frame.group("MRDiffusionSequence")
    gradient = items(diffusion, "DiffusionGradientDirectionSequence")
    return (
        ("image_type", joined(kind, "FrameType")),
        ("component", joined(kind, "ComplexImageComponent")),
        ("echo_time", joined(frame.group("MREchoSequence"), "EffectiveEchoTime")),
        ("b_value", joined(diffusion, "DiffusionBValue")),
        ("gradient", joined(gradient[0], "DiffusionGradientOrientation") if gradient else ""),
        ("stack", text(content, "StackID")),
        ("temporal_position", joined(content, "TemporalPositionIndex")),
        ("dimension", _indices(content, dimensions)),
        ("acquisition", joined(content, "FrameAcquisitionNumber")),
        ("acquisition_time", joined(content, "FrameAcquisitionDateTime")),
    )


def _indices(content: pydicom.Dataset, dimensions: list[int]) -> str:
    """The frame's dimension indices (PS3.3 C.7.6.17) but for those of places."""
    if not dimensions or value(content, "DimensionIndexValues") is None:
        return ""
    found = value(content, "DimensionIndexValues")
    indices = [found] if isinstance(found, int) else list(found)
    if len(indices) != len(dimensions):
        raise MedsslError("DICOM_TAG_INVALID", "Dimension Index Values do not fit the dimensions")
    pairs = zip(dimensions, indices, strict=True)
    return "\\".join(str(index) for pointer, index in pairs if pointer not in _PLACES)
