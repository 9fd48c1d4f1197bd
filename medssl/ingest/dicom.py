"""DICOM files into volumes: each series is one or several correct volumes, or one refusal.

A series that holds any file medssl cannot use is refused whole, for a volume without that file
could be wrong. Slices of one series that share SOP Instance UID and content count once. Where a
series holds several volumes (times, echoes, orientations), :mod:`medssl.ingest.split` says which
slices belong together; one that fails refuses the series.

A single slice does not tell its slice spacing and makes no volume. Ingest takes it as a 2D image
(channel, row, column), in the rows and columns it was stored with, and so each radiograph.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import MedsslError
from medssl.ingest.completeness import beside_siblings, check_stated
from medssl.ingest.geometry import check_plane, check_spacing, stack
from medssl.ingest.headers import Refused, SliceHeader
from medssl.ingest.jobs import Rejection
from medssl.ingest.pixels import SliceReader
from medssl.ingest.slices import read_slices
from medssl.ingest.split import Part, split
from medssl.ingest.volume import DicomVolume

__all__ = ["ALLOWABLE", "DicomVolume", "Rejection", "find_volumes"]

Array = npt.NDArray[Any]

ALLOWABLE = frozenset(
    {
        "LOCALIZER",
        "DERIVED",
        "SLICES_FEWER_THAN_STATED",
        "SLICES_FEWER_THAN_SIBLING",
        "SPACING_UNKNOWN",
        "FACE_NOT_REMOVED",
    }
)
"""Defects of which a volume can still be made, if the user says so. SPACING_UNKNOWN is one of
radiographs alone, FACE_NOT_REMOVED one of ingest with ``deface``."""


# Marks that change what a voxel means: the slices of one volume must share them.
_CONTRASTS = ("image_type", "component", "echo_time", "inversion_time", "b_value")


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
    volumes, more = beside_siblings(volumes, allow)
    return volumes, [*rejections, *more]


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
    if headers[0].kind == "projection":
        return _radiographs(headers, copies, single_slices)
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


def _radiographs(
    headers: list[SliceHeader], copies: Sequence[tuple[SliceHeader, Path]], single_slices: bool
) -> list[DicomVolume]:
    """Every radiograph of a series, in the order of the instance numbers."""
    if not single_slices:
        raise MedsslError("SPACING_UNKNOWN", "A radiograph has no slices")
    for header in headers:
        check_spacing([header.pose])
    ordered = sorted(headers, key=lambda header: (header.instance or 0, header.sop_uid))
    names = [f"image={i}/{len(ordered)}" if len(ordered) > 1 else "" for i in
             range(1, len(ordered) + 1)]  # fmt: skip
    return [
        DicomVolume(
            [header], None, name, [path for first, path in copies if first is header],
            list(header.defects),
        )
        for header, name in zip(ordered, names, strict=True)
    ]  # fmt: skip


def _volume(part: Part, copies: Sequence[tuple[SliceHeader, Path]]) -> DicomVolume:
    first = part.headers[0]
    poses = [header.pose for header in part.headers]
    placed = stack(poses, first.declared_spacing, first.thickness)
    for name in _CONTRASTS:
        if len({dict(header.marks).get(name) for header in part.headers}) > 1:
            raise MedsslError("SERIES_MIXED", f"The slices of one volume differ in {name}")
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
