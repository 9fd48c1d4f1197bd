"""DICOM files into volumes: each series is one or several correct volumes, or one refusal.

A series that holds any file medssl cannot use is refused whole, for a volume without that file
could be wrong. Slices of one series that share SOP Instance UID and content count once. Where a
series holds several volumes (times, echoes, orientations), :mod:`medssl.ingest.split` says which
slices belong together; one that fails refuses the series.

A single slice does not tell its slice spacing and makes no volume. Ingest takes it as a 2D image
(channel, row, column), in the rows and columns it was stored with.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import MedsslError
from medssl.ingest.completeness import check_stated, is_part_of
from medssl.ingest.geometry import check_plane, stack
from medssl.ingest.headers import Refused, SliceHeader
from medssl.ingest.jobs import Rejection
from medssl.ingest.pixels import SliceReader
from medssl.ingest.slices import read_slices
from medssl.ingest.split import Part, split

__all__ = ["ALLOWABLE", "DicomVolume", "Rejection", "find_volumes"]

Array = npt.NDArray[Any]

ALLOWABLE = frozenset(
    {"LOCALIZER", "DERIVED", "SLICES_FEWER_THAN_STATED", "SLICES_FEWER_THAN_SIBLING"}
)
"""Defects of which a correct volume can still be made, if the user says so."""


@dataclass(frozen=True)
class DicomVolume:
    """Slices whose headers make one volume of a series. ``series_uid``, ``study_uid`` and
    ``patient_id`` are the real ones.

    Attributes:
        headers: its slices in slice order, along the normal of the image plane.
        affine: 4x4 float64, voxel (column, row, slice) to RAS mm; None for a single slice.
        part: what tells it from the other volumes of its series, "" where there is no other.
        duplicates: further files with the same images.
        defects: codes that were accepted on request.
    """

    headers: list[SliceHeader]
    affine: Array | None
    part: str = ""
    duplicates: list[Path] = field(default_factory=list)
    defects: list[str] = field(default_factory=list)

    @property
    def files(self) -> list[Path]:
        """Its files, in slice order, each once."""
        return list(dict.fromkeys(header.path for header in self.headers))

    @property
    def kind(self) -> str:
        """How its slices are stored: "classic", "enhanced" or "mosaic"."""
        return self.headers[0].kind

    @property
    def modality(self) -> str:
        """ "CT", "MR" or "PT"."""
        return self.headers[0].modality

    @property
    def series_uid(self) -> str:
        """SeriesInstanceUID."""
        return self.headers[0].series_uid

    @property
    def study_uid(self) -> str:
        """StudyInstanceUID, may be empty."""
        return self.headers[0].study_uid

    @property
    def patient_id(self) -> str:
        """PatientID, may be empty."""
        return self.headers[0].patient_id

    @property
    def dims(self) -> int:
        """3, or 2 for a single slice."""
        return 2 if self.affine is None else 3

    def decode(self, reader: SliceReader | None = None) -> Array:
        """Read the voxels.

        Args:
            reader: one for all volumes of a file, so that it is read once.

        Returns:
            (1, x, y, z) on the grid of :attr:`affine`, x along the columns and y along the rows;
            (1, row, column) for a single slice. CT in HU, MR in arbitrary units, PT in the units
            of its series.

        Raises:
            MedsslError: as :meth:`medssl.ingest.pixels.SliceReader.read`.
        """
        reader = reader or SliceReader()
        if self.affine is None:
            return reader.read(self.headers[0])[None]
        # Slice-wise types can differ (one slice may rescale by 1); numpy finds the common one.
        return np.stack([reader.read(header).T for header in self.headers], axis=-1)[None]


def find_volumes(
    files: Iterable[Path], *, single_slices: bool = False, allow: Collection[str] = ()
) -> tuple[list[DicomVolume], list[Rejection]]:
    """Group DICOM files by SeriesInstanceUID and find the volumes of each series.

    Args:
        files: DICOM files in any order; folders are not entered.
        single_slices: accept a series of one slice as a 2D image, instead of refusing it with
            SPACING_UNKNOWN.
        allow: codes of :data:`ALLOWABLE` to accept; the volumes then say so.

    Returns:
        the volumes, by first file of their series, those of one series next to each other; and the
        rejections. Every file is in a volume (in several, where it holds several) or in a
        rejection.
    """
    groups: dict[str, list[SliceHeader | Refused]] = {}
    rejections: list[Rejection] = []
    for path in sorted(files):
        found = read_slices(path, allow)
        if isinstance(found, Refused):
            if found.series_uid:
                groups.setdefault(found.series_uid, []).append(found)
            else:
                rejections.append(Rejection([path], found.code, found.detail))
        else:
            groups.setdefault(found[0].series_uid, []).extend(found)
    volumes: list[DicomVolume] = []
    for group in groups.values():
        try:
            volumes += _volumes(group, single_slices, allow)
        except MedsslError as error:
            paths = list(dict.fromkeys(header.path for header in group))
            rejections.append(Rejection(paths, error.code, error.what))
    return _beside_siblings(volumes, rejections, allow)


def _volumes(
    group: Sequence[SliceHeader | Refused], single_slices: bool, allow: Collection[str]
) -> list[DicomVolume]:
    refused = [header for header in group if isinstance(header, Refused)]
    if refused:
        first, files = refused[0], len({header.path for header in group})
        count = f" ({len(refused)} of {files} files)" if len(refused) < files else ""
        raise MedsslError(first.code, first.detail + count)
    headers, copies = _without_duplicates([h for h in group if isinstance(h, SliceHeader)])
    _check_consistent(headers)
    if len(headers) == 1 and single_slices:
        check_plane([headers[0].pose])
        duplicates = [path for _, path in copies]
        return [DicomVolume(headers, None, "", duplicates, list(headers[0].defects))]
    volumes = [_volume(part, copies) for part in split(headers)]
    return [_checked(volume, len(headers), allow) for volume in volumes]


def _checked(volume: DicomVolume, in_series: int, allow: Collection[str]) -> DicomVolume:
    try:
        check_stated(volume.headers, in_series)
    except MedsslError as error:
        if error.code not in allow:
            raise
        return replace(volume, defects=[*volume.defects, error.code])
    return volume


def _beside_siblings(
    volumes: list[DicomVolume], rejections: list[Rejection], allow: Collection[str]
) -> tuple[list[DicomVolume], list[Rejection]]:
    """Refuse, or mark, series that are a piece of another one of their study."""
    code = "SLICES_FEWER_THAN_SIBLING"
    places: dict[tuple[object, ...], list[DicomVolume]] = {}
    for volume in volumes:
        places.setdefault(_grid(volume), []).append(volume)
    short = {id(v) for v in volumes if any(_is_piece(v, other) for other in places[_grid(v)])}
    if code in allow:
        marked = [replace(v, defects=[*v.defects, code]) if id(v) in short else v for v in volumes]
        return marked, rejections
    refused: dict[str, list[Path]] = {}
    for volume in volumes:
        if id(volume) in short:
            refused.setdefault(volume.series_uid, [])
    for volume in volumes:
        if volume.series_uid in refused:
            refused[volume.series_uid] += [*volume.files, *volume.duplicates]
    text = "Another series of the study has these slices and more"
    more = [Rejection(list(dict.fromkeys(paths)), code, text) for paths in refused.values()]
    return [v for v in volumes if v.series_uid not in refused], [*rejections, *more]


def _grid(volume: DicomVolume) -> tuple[object, ...]:
    """What two volumes must share to be compared slice by slice."""
    first = volume.headers[0]
    return first.study_uid, first.frame_uid, first.modality, first.pose.shape, volume.dims


def _is_piece(one: DicomVolume, other: DicomVolume) -> bool:
    first = one.headers[0]
    if one.affine is None or other.affine is None or one.series_uid == other.series_uid:
        return False
    if not first.study_uid or not first.frame_uid:
        return False
    return is_part_of(one.affine, len(one.headers), other.affine, len(other.headers))


def _volume(part: Part, copies: Sequence[tuple[SliceHeader, Path]]) -> DicomVolume:
    first = part.headers[0]
    poses = [header.pose for header in part.headers]
    placed = stack(poses, first.declared_spacing, first.thickness)
    if len({dict(header.marks).get("echo_time") for header in part.headers}) > 1:
        raise MedsslError("SERIES_MIXED", "The slices of one volume have several echo times")
    own = {header.path for header in part.headers}
    duplicates = dict.fromkeys(path for header, path in copies if header.path in own)
    ordered = [part.headers[i] for i in placed.order]
    defects = sorted({code for header in ordered for code in header.defects})
    return DicomVolume(ordered, placed.affine, part.name, list(duplicates), defects)


def _without_duplicates(
    headers: Sequence[SliceHeader],
) -> tuple[list[SliceHeader], list[tuple[SliceHeader, Path]]]:
    """Keep one slice per SOPInstanceUID, frame and tile; the others must hold the same image."""
    kept: dict[tuple[object, ...], SliceHeader] = {}
    copies: list[tuple[SliceHeader, Path]] = []
    for header in headers:
        first = kept.setdefault((header.sop_uid, header.frame, header.tile), header)
        if first is header:
            continue
        if not _same_image(first, header):
            raise MedsslError("DUPLICATE_CONFLICT", "Two different images have one UID")
        copies.append((first, header.path))
    return list(kept.values()), copies


def _same_image(one: SliceHeader, two: SliceHeader) -> bool:
    if replace(one, path=two.path) != two:
        return False
    if one.path.read_bytes() == two.path.read_bytes():
        return True
    return np.array_equal(SliceReader().read(one), SliceReader().read(two))


def _check_consistent(headers: Sequence[SliceHeader]) -> None:
    for what, values in {
        "patients": {header.patient_id for header in headers},
        "studies": {header.study_uid for header in headers},
        "frames of reference": {header.frame_uid for header in headers},
        "modalities": {header.modality for header in headers},
        "kinds of file": {header.kind for header in headers},
    }.items():
        if len(values) > 1:
            raise MedsslError("SERIES_MIXED", f"One series UID covers {len(values)} {what}")
