"""DICOM Segmentation (PS3.3 A.51, C.8.20): BINARY, FRACTIONAL and LABELMAP, as layers on a volume.

Frames are placed by their own plane positions, never by their order. Read with pydicom alone: one
frame at a time, so that a file of many segments needs no more memory than itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom

from medssl.errors import MedsslError
from medssl.ingest.geometry import SlicePose
from medssl.ingest.label_grid import Layer, Placement, SliceGrid, place
from medssl.ingest.label_objects import WHOLE, LabelObject
from medssl.ingest.seg_pixels import FramePixels
from medssl.ingest.structures import EVERY, NameRules, kept_name, personal_words
from medssl.ingest.tags import items, numbers, parsed, text, value, whole
from medssl.ingest.volume import DicomVolume

Array = npt.NDArray[Any]

_KINDS = {"BINARY": (1, 8), "FRACTIONAL": (8,), "LABELMAP": (8, 16)}  # Bits Allocated


def seg_object(path: Path, data: pydicom.Dataset, rules: NameRules = EVERY) -> LabelObject:
    """What the header of a SEG says.

    Args:
        path: the file.
        data: its header.
        rules: what the user said of names.

    Raises:
        MedsslError: LABEL_INVALID, DICOM_TAG_MISSING, DICOM_TAG_INVALID.
    """
    _kind(data)
    return LabelObject(
        path=path,
        kind="seg",
        sop_uid=text(data, "SOPInstanceUID"),
        patient_id=text(data, "PatientID"),
        frame_uids=(text(data, "FrameOfReferenceUID"),),
        series=tuple(
            uid
            for item in items(data, "ReferencedSeriesSequence")
            if (uid := text(item, "SeriesInstanceUID"))
        ),
        images=_images(data),
        structures=tuple(sorted(set(_segments(data, rules).values()) - {""})),
    )


def _kind(data: pydicom.Dataset) -> str:
    """BINARY, FRACTIONAL or LABELMAP."""
    kind = text(data, "SegmentationType").upper()
    if kind not in _KINDS or whole(data, "BitsAllocated") not in _KINDS[kind]:
        raise MedsslError("LABEL_INVALID", "Not a BINARY, FRACTIONAL or LABELMAP segmentation")
    return kind


def _segments(data: pydicom.Dataset, rules: NameRules) -> dict[int, str]:
    """Segment number -> name, "" of one that is not wanted; the background is none of them."""
    personal = personal_words(data)
    background = _background(data) if _kind(data) == "LABELMAP" else None
    names: dict[int, str] = {}
    for item in items(data, "SegmentSequence"):
        segment = whole(item, "SegmentNumber")
        if segment in names:
            raise MedsslError("LABEL_INVALID", "Two segments have one number")
        if segment != background:
            name = text(item, "SegmentLabel")
            kept = kept_name(name, segment, personal, rules) if rules.wants(name) else ""
            names[segment] = kept
    if not names:
        raise MedsslError("LABEL_INVALID", "It describes no segment")
    if not any(names.values()):
        raise MedsslError("LABEL_UNWANTED", "It has none of the structures asked for")
    return names


def _background(data: pydicom.Dataset) -> int:
    """The stored value of what no segment covers: Pixel Padding Value, or 0 without it."""
    return whole(data, "PixelPaddingValue") if "PixelPaddingValue" in data else 0


def _frames(data: pydicom.Dataset) -> list[pydicom.Dataset]:
    frames = items(data, "PerFrameFunctionalGroupsSequence")
    if not frames or len(frames) != whole(data, "NumberOfFrames"):
        raise MedsslError(
            "LABEL_INVALID", f"{len(frames)} frames are described, another number is stated"
        )
    return frames


def _shared(data: pydicom.Dataset) -> pydicom.Dataset:
    found = items(data, "SharedFunctionalGroupsSequence")
    return found[0] if found else pydicom.Dataset()


def _group(name: str, frame: pydicom.Dataset, shared: pydicom.Dataset) -> pydicom.Dataset:
    """A functional group of a frame: its own, or that of all frames (PS3.3 C.7.6.16)."""
    found = items(frame, name) or items(shared, name)
    if len(found) > 1:
        raise MedsslError("DICOM_TAG_INVALID", f"{name} has several items")
    return found[0] if found else pydicom.Dataset()


def _images(data: pydicom.Dataset) -> tuple[tuple[str, int], ...]:
    """The images that frames were derived from; without any, those that the series item lists."""
    found: dict[tuple[str, int], None] = {}
    for frame in [_shared(data), *_frames(data)]:
        for derivation in items(frame, "DerivationImageSequence"):
            for source in items(derivation, "SourceImageSequence"):
                found.update(dict.fromkeys(_reference(source)))
    if not found:
        for series in items(data, "ReferencedSeriesSequence"):
            for instance in items(series, "ReferencedInstanceSequence"):
                found.update(dict.fromkeys(_reference(instance)))
    return tuple(found)


def _reference(item: pydicom.Dataset) -> list[tuple[str, int]]:
    uid, held = text(item, "ReferencedSOPInstanceUID"), value(item, "ReferencedFrameNumber")
    if held is None or held == "":
        return [(uid, WHOLE)]
    try:
        return [(uid, int(n) - 1) for n in ([held] if isinstance(held, int | str) else held)]
    except (TypeError, ValueError):
        raise MedsslError("DICOM_TAG_INVALID", "ReferencedFrameNumber is not a number") from None


class SegReader:
    """The frames of a SEG, placed on a volume.

    Args:
        path: the file.
        volume: it was matched with.
        rules: what the user said of names.

    Attributes:
        notes: what the user should know, free of identifiers.

    Raises:
        MedsslError: LABEL_GRID_MISMATCH where a frame is no plane of the volume's grid;
            LABEL_INVALID; FILE_UNREADABLE, FILE_TRUNCATED, DECODER_MISSING, DICOM_TAG_MISSING,
            DICOM_TAG_INVALID.
    """

    def __init__(self, path: Path, volume: DicomVolume, rules: NameRules = EVERY) -> None:
        self._data = parsed(path)
        self._kind = _kind(self._data)
        self._names = _segments(self._data, rules)
        self._rows = whole(self._data, "Rows")
        self._columns = whole(self._data, "Columns")
        frames = _frames(self._data)
        self._places = self._placed(frames, volume)
        # Name -> its frames: (index, segment number).
        self._of: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for index, frame in enumerate(frames):
            for segment in self._segments_of(frame):
                if name := self._names[segment]:
                    self._of[name].append((index, segment))
        self._check_each_plane_once()
        self._pixels = FramePixels(self._data, len(frames), (self._rows, self._columns))
        fractional = self._kind == "FRACTIONAL"
        self._most = whole(self._data, "MaximumFractionalValue") if fractional else 1
        if self._most < 1:
            raise MedsslError("LABEL_INVALID", "MaximumFractionalValue is 0")
        self._kept: list[Array] = []
        self.notes: list[str] = []
        if fractional:
            self.notes.append("a fraction of one half and more counts as the structure")

    def _placed(self, frames: list[pydicom.Dataset], volume: DicomVolume) -> list[Placement]:
        grid = SliceGrid.of(volume)
        shared = _shared(self._data)
        places = []
        for frame in frames:
            plane = _group("PlaneOrientationSequence", frame, shared)
            pose = SlicePose(
                orientation=numbers(plane, "ImageOrientationPatient", 6),
                position=numbers(
                    _group("PlanePositionSequence", frame, shared), "ImagePositionPatient", 3
                ),
                pixel_spacing=numbers(
                    _group("PixelMeasuresSequence", frame, shared), "PixelSpacing", 2
                ),
                shape=(self._rows, self._columns),
            )
            places.append(place(grid.index(pose), pose.shape, grid.shape))
        return places

    def _segments_of(self, frame: pydicom.Dataset) -> list[int]:
        """The segments a frame can hold: one, or in a label map each."""
        if self._kind == "LABELMAP":
            return list(self._names)
        identification = _group("SegmentIdentificationSequence", frame, _shared(self._data))
        segment = whole(identification, "ReferencedSegmentNumber")
        if segment not in self._names:
            raise MedsslError("LABEL_INVALID", "A frame is of a segment that is not described")
        return [segment]

    def _check_each_plane_once(self) -> None:
        for held in self._of.values():
            if len({(self._places[index].where, segment) for index, segment in held}) < len(held):
                raise MedsslError("LABEL_INVALID", "Two frames of one segment lie in one plane")

    def layers(self, name: str) -> Iterator[Layer]:
        """The structure's frames that have a pixel, one after the other.

        Raises:
            MedsslError: DECODE_FAILED, LABEL_INVALID.
        """
        held = self._of.get(name, [])
        pictures = self._pictures([index for index, _ in held])
        for (index, segment), pixels in zip(held, pictures, strict=True):
            self._check_values(pixels)
            mask = pixels == segment if self._kind == "LABELMAP" else 2 * pixels >= self._most
            if mask.any():
                yield self._places[index].layer(mask)

    def _pictures(self, indices: list[int]) -> Iterator[Array]:
        """Frames (row, column). Those of a label map, which every structure asks for, are kept."""
        if self._kind != "LABELMAP":
            return self._pixels.frames(indices)
        if not self._kept:
            self._kept = [frame.astype(np.uint16) for frame in self._pixels.frames(None)]
        return (self._kept[index] for index in indices)

    def _check_values(self, pixels: Array) -> None:
        if self._kind == "LABELMAP":
            described = [*self._names, _background(self._data)]
            fits = bool(np.isin(pixels, described).all())
        else:
            fits = int(pixels.min()) >= 0 and int(pixels.max()) <= self._most
        if not fits:
            raise MedsslError("LABEL_INVALID", "A pixel has a value that no segment has")
