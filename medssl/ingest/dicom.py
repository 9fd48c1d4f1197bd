"""DICOM files into volumes: each series is one or several correct volumes, or one refusal.

A series that holds any file medssl cannot use is refused whole, for a volume without that file
could be wrong; and so is one in whose folder, if it has that for itself, a file cannot be read.
Slices of one series that share SOP Instance UID and content count once. Where a series holds
several volumes (times, echoes, orientations), :mod:`medssl.ingest.split` says which slices belong
together; one that fails refuses the series. Slices that a tilted gantry has sheared are resampled
to an orthogonal grid, and so, on request, unevenly spaced ones.

A single slice does not tell its slice spacing and makes no volume. Ingest takes it as a 2D image
(channel, row, column), in the rows and columns it was stored with, and so each radiograph, picture
and frame of a clip.
"""

from __future__ import annotations

import filecmp
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import MedsslError
from medssl.ingest.colour import FrameReader
from medssl.ingest.completeness import beside_siblings, check_stated
from medssl.ingest.geometry import Stack, check_plane, check_spacing, check_stated_tilt, stack
from medssl.ingest.headers import Refused, SliceHeader
from medssl.ingest.rejection import Rejection
from medssl.ingest.resample import target_grid
from medssl.ingest.slices import read_slices
from medssl.ingest.split import Part, split
from medssl.ingest.volume import DicomVolume
from medssl.store.original import OriginalGrid

__all__ = ["DicomVolume", "Rejection", "find_volumes"]

Array = npt.NDArray[Any]

# A file of which not even the series can be read, in a folder of one series, is taken for a slice
# of it: without that slice the volume could be short, and nothing else would tell.
_UNREADABLE = frozenset({"FILE_UNREADABLE", "FILE_TRUNCATED", "READER_FAILED"})
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
        allow: codes of :data:`medssl.ingest.allowable.ALLOWABLE` to accept; volumes say so then.

    Returns:
        the volumes, by first file of their series, those of one series next to each other; and the
        rejections. Every file is in a volume (in several, where it holds several) or in a
        rejection.
    """
    found = (read_slices(path, allow) for path in sorted(files))
    return group_slices(found, single_slices=single_slices, allow=allow)


def group_slices(
    found: Iterable[list[SliceHeader] | Refused],
    *,
    single_slices: bool = False,
    allow: Collection[str] = (),
    same: Callable[[SliceHeader, SliceHeader], bool] | None = None,
) -> tuple[list[DicomVolume], list[Rejection]]:
    """As :func:`find_volumes`, of headers that were read before.

    Args:
        found: the slices of each file, in the order of the paths.
        single_slices: as there.
        allow: as there.
        same: whether two slices that have one UID hold the same pixels; by default both are read.
    """
    groups: dict[str, list[SliceHeader | Refused]] = {}
    beside: dict[Path, set[str]] = {}
    lost: list[Refused] = []
    for one in found:
        headers = [one] if isinstance(one, Refused) else one
        # A report filed under the series of its images says nothing against them.
        alone = isinstance(one, Refused) and one.code == "NOT_AN_IMAGE"
        if alone or not headers[0].series_uid:
            lost += [header for header in headers if isinstance(header, Refused)]
            continue
        groups.setdefault(headers[0].series_uid, []).extend(headers)
        beside.setdefault(headers[0].path.parent, set()).add(headers[0].series_uid)
    rejections: list[Rejection] = []
    for refused in lost:
        series = beside.get(refused.path.parent, set())
        if refused.code in _UNREADABLE and len(series) == 1:
            groups[next(iter(series))].append(refused)
        else:
            rejections.append(Rejection([refused.path], refused.code, refused.detail))
    volumes: list[DicomVolume] = []
    for group in groups.values():
        try:
            volumes += _volumes(group, single_slices, allow, same or same_pixels)
        except MedsslError as error:
            paths = list(dict.fromkeys(header.path for header in group))
            rejections.append(Rejection(paths, error.code, error.what))
    volumes, more = beside_siblings(volumes, allow)
    return volumes, [*rejections, *more]


def _volumes(
    group: Sequence[SliceHeader | Refused],
    single_slices: bool,
    allow: Collection[str],
    same: Callable[[SliceHeader, SliceHeader], bool],
) -> list[DicomVolume]:
    refused = [header for header in group if isinstance(header, Refused)]
    if refused:
        first, files = refused[0], len({header.path for header in group})
        count = f" ({len(refused)} of {files} files)" if len(refused) < files else ""
        raise MedsslError(first.code, first.detail + count)
    slices = [header for header in group if isinstance(header, SliceHeader)]
    headers, copies = _without_duplicates(slices, same)
    _check_consistent(headers)
    if headers[0].kind in ("projection", "picture"):
        return _pictures(headers, copies, single_slices)
    if len(headers) == 1 and single_slices:
        check_plane([headers[0].pose])
        duplicates = [path for _, path in copies]
        return [DicomVolume(headers, None, "", duplicates, list(headers[0].defects))]
    volumes = [_volume(part, copies, allow) for part in split(headers)]
    return [_checked(volume, len(headers), allow) for volume in volumes]


def _checked(volume: DicomVolume, in_series: int, allow: Collection[str]) -> DicomVolume:
    try:
        check_stated(volume.headers, in_series)
    except MedsslError as error:
        if error.code not in allow:
            raise
        return replace(volume, defects=[*volume.defects, error.code])
    return volume


def _pictures(
    headers: list[SliceHeader], copies: Sequence[tuple[SliceHeader, Path]], single_slices: bool
) -> list[DicomVolume]:
    """Every radiograph or picture of a series, in the order of the instance numbers, and of a clip
    every frame."""
    if not single_slices:
        raise MedsslError("SPACING_UNKNOWN", "A radiograph or picture has no slices")
    for header in headers:
        check_spacing([header.pose])
    ordered = sorted(headers, key=lambda h: (h.instance or 0, h.sop_uid, h.frame))
    files = list(dict.fromkeys(header.sop_uid for header in ordered))
    return [
        DicomVolume(
            [header], None, _picture_name(header, files), [p for h, p in copies if h is header],
            list(header.defects),
        )
        for header in ordered
    ]  # fmt: skip


def _picture_name(header: SliceHeader, files: Sequence[str]) -> str:
    """Such as "image=2/4", "frame=3/60" or "image=2/4, frame=3/60"."""
    image = f"image={files.index(header.sop_uid) + 1}/{len(files)}" if len(files) > 1 else ""
    frame = f"frame={header.frame + 1}/{header.frames}" if header.frames > 1 else ""
    return ", ".join(name for name in (image, frame) if name)


def _volume(
    part: Part, copies: Sequence[tuple[SliceHeader, Path]], allow: Collection[str]
) -> DicomVolume:
    first = part.headers[0]
    poses = [header.pose for header in part.headers]
    placed = stack(poses, first.declared_spacing, first.thickness, allow)
    for name in _CONTRASTS:
        if len({dict(header.marks).get(name) for header in part.headers}) > 1:
            raise MedsslError("SERIES_MIXED", f"The slices of one volume differ in {name}")
    own = {header.path for header in part.headers}
    duplicates = dict.fromkeys(path for header, path in copies if header.path in own)
    ordered = [part.headers[i] for i in placed.order]
    defects = {code for header in ordered for code in header.defects}
    if placed.positions:
        defects.add("SPACING_UNEVEN")
    try:
        check_stated_tilt(placed.tilt, {h.tilt for h in ordered if h.tilt is not None})
    except MedsslError as error:
        if error.code not in allow:
            raise
        defects.add(error.code)
    volume = DicomVolume(ordered, placed.affine, part.name, list(duplicates), sorted(defects))
    return _straightened(volume, placed) if placed.tilt or placed.positions else volume


def _straightened(volume: DicomVolume, placed: Stack) -> DicomVolume:
    """The same slices, to be resampled to an orthogonal grid."""
    rows, columns = volume.headers[0].pose.shape
    affine = tuple(float(v) for v in placed.affine.ravel())
    grid = OriginalGrid(affine, (columns, rows, len(placed.order)), placed.positions)
    target = target_grid(grid)
    said = [f"tilt {placed.tilt:.2f} degrees"] if placed.tilt else []
    if placed.positions:
        gaps, even = np.diff(placed.positions), float(np.linalg.norm(target.affine[:3, 2]))
        said.append(f"spacing {gaps.min():.3f} to {gaps.max():.3f} mm, to {even:.3f} mm")
    return replace(volume, affine=target.affine, original=grid, resampled="; ".join(said))


def _without_duplicates(
    headers: Sequence[SliceHeader], same: Callable[[SliceHeader, SliceHeader], bool]
) -> tuple[list[SliceHeader], list[tuple[SliceHeader, Path]]]:
    """Keep one slice per SOPInstanceUID, frame and tile; the others must hold the same image."""
    kept: dict[tuple[object, ...], SliceHeader] = {}
    copies: list[tuple[SliceHeader, Path]] = []
    for header in headers:
        first = kept.setdefault((header.sop_uid, header.frame, header.tile), header)
        if first is header:
            continue
        if replace(first, path=header.path) != header or not same(first, header):
            raise MedsslError("DUPLICATE_CONFLICT", "Two different images have one UID")
        copies.append((first, header.path))
    return list(kept.values()), copies


def same_pixels(one: SliceHeader, two: SliceHeader) -> bool:
    """Whether two slices hold the same values.

    Raises:
        MedsslError: as :meth:`medssl.ingest.colour.FrameReader.read`.
    """
    if filecmp.cmp(one.path, two.path, shallow=False):  # remembered for the next frame
        return True
    return np.array_equal(FrameReader().read(one), FrameReader().read(two))


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
