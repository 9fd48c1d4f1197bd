"""RT Structure Sets (PS3.3 A.19, C.8.8.5, C.8.8.6): closed planar contours as layers on a volume.

Contours are points in LPS mm, and each must lie in a slice of the volume. Between slices nothing is
made up: a slice without a contour has none of the structure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from medssl.errors import MedsslError
from medssl.ingest.contours import fill, fill_islands
from medssl.ingest.label_grid import SLICE_TOLERANCE, Layer, SliceGrid
from medssl.ingest.label_objects import WHOLE, LabelObject
from medssl.ingest.structures import EVERY, NameRules, kept_name, personal_words
from medssl.ingest.tags import items, number, numbers, parsed, text, value, whole
from medssl.ingest.volume import DicomVolume

Array = npt.NDArray[Any]

_CONTOUR_DATA: Any = Tag("ContourData")
_CLOSED, _XOR, _POINT = "CLOSED_PLANAR", "CLOSEDPLANAR_XOR", "POINT"


@dataclass
class _Region:
    """A region of interest: its closed contours, unread, and what was left out."""

    name: str
    frame_uid: str
    kind: str = ""
    contours: list[pydicom.Dataset] = field(default_factory=list)
    points: int = 0


def rtstruct_object(path: Path, data: pydicom.Dataset, rules: NameRules = EVERY) -> LabelObject:
    """What a structure set says beside its contours.

    It refers to the images that its contours name, or to all that it lists where they name none.
    A region without closed contours is not counted as annotated: templates list such.

    Args:
        path: the file.
        data: the structure set.
        rules: what the user said of names.

    Raises:
        MedsslError: LABEL_INVALID, DICOM_TAG_MISSING, DICOM_TAG_INVALID.
    """
    regions, _ = _regions(data, rules)
    listed = _listed(data)
    own = dict.fromkeys(
        uid for region in regions for contour in region.contours for uid in _images_of(contour)
    )
    every = dict.fromkeys(uid for images in listed.values() for uid in images)
    named = own or every
    return LabelObject(
        path=path,
        kind="rtstruct",
        sop_uid=text(data, "SOPInstanceUID"),
        patient_id=text(data, "PatientID"),
        frame_uids=tuple(sorted({region.frame_uid for region in regions})),
        series=tuple(
            uid
            for uid, images in listed.items()
            if uid and (not named or named.keys() & set(images))
        ),
        images=tuple((uid, WHOLE) for uid in named),
        structures=tuple(sorted({region.name for region in regions})),
    )


def _listed(data: pydicom.Dataset) -> dict[str, list[str]]:
    """Series UID -> SOP Instance UIDs, of Referenced Frame of Reference Sequence."""
    found: dict[str, list[str]] = defaultdict(list)
    for frame in items(data, "ReferencedFrameOfReferenceSequence"):
        for study in items(frame, "RTReferencedStudySequence"):
            for series in items(study, "RTReferencedSeriesSequence"):
                found[text(series, "SeriesInstanceUID")] += _images_of(series)
    return found


def _images_of(item: pydicom.Dataset) -> list[str]:
    return [
        text(image, "ReferencedSOPInstanceUID") for image in items(item, "ContourImageSequence")
    ]


def _regions(data: pydicom.Dataset, rules: NameRules) -> tuple[list[_Region], int]:
    """The regions wanted that have closed contours, in the order of the file, and how many points
    were left out."""
    regions = {}
    personal = personal_words(data)
    held: dict[int, list[pydicom.Dataset]] = defaultdict(list)
    for item in items(data, "ROIContourSequence"):
        held[whole(item, "ReferencedROINumber")] += items(item, "ContourSequence")
    for item in items(data, "StructureSetROISequence"):
        key = whole(item, "ROINumber")
        if key in regions:
            raise MedsslError("LABEL_INVALID", "Two regions have one number")
        region = _Region("", text(item, "ReferencedFrameOfReferenceUID"))
        regions[key] = region
        contours, name = held.pop(key, []), text(item, "ROIName")
        if not rules.wants(name):
            continue
        for contour in contours:
            _sort_in(contour, region)
        if region.contours:
            region.name = kept_name(name, key, personal, rules)
    if any(held.values()):
        raise MedsslError("LABEL_INVALID", "Contours belong to no region that is described")
    found = [region for region in regions.values() if region.contours]
    if not found and rules.only:
        raise MedsslError("LABEL_UNWANTED", "It has none of the structures asked for")
    if not found:
        raise MedsslError("LABEL_INVALID", "It has no closed contour")
    return found, sum(region.points for region in regions.values())


def _sort_in(contour: pydicom.Dataset, region: _Region) -> None:
    kind = text(contour, "ContourGeometricType").upper()
    if kind == _POINT or (
        kind in (_CLOSED, _XOR) and number(contour, "NumberOfContourPoints") == 1
    ):
        region.points += 1
    elif kind not in (_CLOSED, _XOR) or region.kind not in ("", kind):
        raise MedsslError("LABEL_INVALID", "A contour is neither closed and planar nor a point")
    else:
        region.kind = kind
        region.contours.append(contour)


class StructureReader:
    """The regions of a structure set, drawn on a volume.

    Args:
        path: the file.
        volume: it was matched with.
        rules: what the user said of names.

    Attributes:
        notes: what the user should know, free of identifiers.

    Raises:
        MedsslError: LABEL_GRID_MISMATCH where a contour lies in no slice of the volume;
            LABEL_INVALID, FILE_UNREADABLE, DICOM_TAG_MISSING, DICOM_TAG_INVALID.
    """

    def __init__(self, path: Path, volume: DicomVolume, rules: NameRules = EVERY) -> None:
        data = parsed(path)
        self._grid = SliceGrid.of(volume)
        own: dict[str, set[int]] = defaultdict(set)
        for place, header in enumerate(volume.headers):
            own[header.sop_uid].add(place)
        # For each name its regions: how they combine, and slice -> contours.
        self._of: dict[str, list[tuple[str, dict[int, list[Array]]]]] = defaultdict(list)
        regions, points = _regions(data, rules)
        sparse = 0
        for region in regions:
            slices: dict[int, list[Array]] = defaultdict(list)
            for contour in region.contours:
                index, corners = self._in_slice(_points(contour))
                named = _images_of(contour)
                if named and index not in set().union(*(own.get(uid, ()) for uid in named)):
                    text = "A contour lies in another slice than the image that it names"
                    raise MedsslError("LABEL_GRID_MISMATCH", text)
                slices[index].append(corners)
            sparse += max(slices) - min(slices) + 1 > len(slices)
            self._of[region.name].append((region.kind, slices))
        self.notes = []
        if sparse:
            self.notes.append(f"structures that skip slices, nothing interpolated: {sparse}")
        if points:
            self.notes.append(f"points left out: {points}")

    def _in_slice(self, points: Array) -> tuple[int, Array]:
        """The slice that a contour lies in, and its corners in (column, row)."""
        place = self._grid.voxels(points)
        index = int(np.rint(np.median(place[:, 2])))
        if (np.abs(place[:, 2] - index) > SLICE_TOLERANCE).any():
            raise MedsslError("LABEL_GRID_MISMATCH", "A contour does not lie in one slice")
        columns, rows, slices = self._grid.shape
        low, high = place[:, :2].min(axis=0), place[:, :2].max(axis=0)
        outside = (high < -0.5).any() or (low > [columns - 0.5, rows - 0.5]).any()
        if outside or not 0 <= index < slices:
            raise MedsslError("LABEL_GRID_MISMATCH", "A contour lies outside the image")
        return index, place[:, :2]

    def layers(self, name: str) -> Iterator[Layer]:
        """The structure's slices that have a pixel, one after the other.

        Raises:
            MedsslError: LABEL_INVALID where contours of one region cross or repeat.
        """
        columns, rows, _ = self._grid.shape
        for kind, slices in self._of[name]:
            combine = fill if kind == _XOR else fill_islands
            for index, contours in sorted(slices.items()):
                mask = combine(contours, (rows, columns))
                if mask.any():
                    yield Layer((None, None, index), mask.T)


def _points(contour: pydicom.Dataset) -> Array:
    """(point, 3) float64 in LPS mm. Read from the stored text: there can be a million numbers.

    Raises:
        MedsslError: LABEL_INVALID, DICOM_TAG_INVALID.
    """
    if value(contour, "ContourOffsetVector") and any(numbers(contour, "ContourOffsetVector", 3)):
        raise MedsslError("LABEL_INVALID", "A contour is moved by an offset")
    element = contour.get_item(_CONTOUR_DATA) if _CONTOUR_DATA in contour else None
    held = None if element is None else element.value
    if isinstance(element, RawDataElement) and isinstance(held, bytes):
        held = held.rstrip(b" \0").split(b"\\")
    try:
        coordinates = np.array([float(part) for part in held or []], dtype=np.float64)
    except (TypeError, ValueError):
        raise MedsslError("DICOM_TAG_INVALID", "ContourData does not hold numbers") from None
    if len(coordinates) != 3 * whole(contour, "NumberOfContourPoints"):
        raise MedsslError("LABEL_INVALID", "A contour has another number of points than it states")
    if len(coordinates) < 9 or not np.isfinite(coordinates).all():
        raise MedsslError("LABEL_INVALID", "A contour has fewer than three points")
    return coordinates.reshape(-1, 3)
