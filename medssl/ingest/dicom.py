"""DICOM files into series: each one correct volume, or one refusal with a code.

A series that holds any file medssl cannot use is refused whole, for a volume without that file
could be wrong. Slices of one series that share SOP Instance UID and content count once.

A single CT or MR slice does not tell its slice spacing and makes no volume. Ingest takes it as a
2D image (channel, row, column), in the rows and columns it was stored with.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import MedsslError
from medssl.ingest.geometry import check_plane, stack
from medssl.ingest.headers import Refused, SliceHeader, read_header
from medssl.ingest.jobs import Rejection
from medssl.ingest.pixels import read_slice

__all__ = ["DicomSeries", "Rejection", "find_series"]

Array = npt.NDArray[Any]

_ECHO_TOLERANCE_MS = 1e-3


@dataclass(frozen=True)
class DicomSeries:
    """A series whose headers make one volume. ``series_uid``, ``study_uid`` and ``patient_id``
    are the real ones.

    Attributes:
        headers: its slices in slice order, along the normal of the image plane.
        affine: 4x4 float64, voxel (column, row, slice) to RAS mm; None for a single slice.
        duplicates: further files with the same images.
    """

    headers: list[SliceHeader]
    affine: Array | None
    duplicates: list[Path] = field(default_factory=list)

    @property
    def files(self) -> list[Path]:
        """One file per slice, in slice order."""
        return [header.path for header in self.headers]

    @property
    def modality(self) -> str:
        """ "CT" or "MR"."""
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

    def decode(self) -> Array:
        """Read the voxels.

        Returns:
            (1, x, y, z) on the grid of :attr:`affine`, x along the columns and y along the rows;
            (1, row, column) for a single slice. CT in HU, MR in arbitrary units.

        Raises:
            MedsslError: as :func:`medssl.ingest.pixels.read_slice`.
        """
        if self.affine is None:
            return read_slice(self.headers[0])[None]
        # Slice-wise types can differ (one slice may rescale by 1); numpy finds the common one.
        return np.stack([read_slice(header).T for header in self.headers], axis=-1)[None]


def find_series(
    files: Iterable[Path], *, single_slices: bool = False
) -> tuple[list[DicomSeries], list[Rejection]]:
    """Group DICOM files by SeriesInstanceUID and check that each series is one volume.

    Args:
        files: DICOM files in any order; folders are not entered.
        single_slices: accept a series of one slice as a 2D image, instead of refusing it with
            SPACING_UNKNOWN.

    Returns:
        the series, by first file, and the rejections. Every file is in exactly one of them.
    """
    groups: dict[str, list[SliceHeader | Refused]] = {}
    rejections: list[Rejection] = []
    for path in sorted(files):
        header = read_header(path)
        if header.series_uid:
            groups.setdefault(header.series_uid, []).append(header)
        elif isinstance(header, Refused):
            rejections.append(Rejection([path], header.code, header.detail))
    series: list[DicomSeries] = []
    for group in groups.values():
        try:
            series.append(_as_series(group, single_slices))
        except MedsslError as error:
            rejections.append(Rejection([h.path for h in group], error.code, error.what))
    return series, rejections


def _as_series(group: Sequence[SliceHeader | Refused], single_slices: bool) -> DicomSeries:
    refused = [header for header in group if isinstance(header, Refused)]
    if refused:
        first = refused[0]
        count = f" ({len(refused)} of {len(group)} files)" if len(refused) < len(group) else ""
        raise MedsslError(first.code, first.detail + count)
    headers, duplicates = _without_duplicates([h for h in group if isinstance(h, SliceHeader)])
    _check_consistent(headers)
    if len(headers) == 1 and single_slices:
        check_plane([headers[0].pose])
        return DicomSeries(headers, None, duplicates)
    first_header = headers[0]
    placed = stack(
        [header.pose for header in headers],
        first_header.declared_spacing,
        first_header.thickness,
    )
    return DicomSeries([headers[i] for i in placed.order], placed.affine, duplicates)


def _without_duplicates(
    headers: Sequence[SliceHeader],
) -> tuple[list[SliceHeader], list[Path]]:
    """Keep one file per SOPInstanceUID; the others must hold the same image."""
    kept: dict[str, SliceHeader] = {}
    duplicates: list[Path] = []
    for header in headers:
        first = kept.setdefault(header.sop_uid, header)
        if first is header:
            continue
        if not _same_image(first, header):
            raise MedsslError("DUPLICATE_CONFLICT", "Two different images have one UID")
        duplicates.append(header.path)
    return list(kept.values()), duplicates


def _same_image(one: SliceHeader, two: SliceHeader) -> bool:
    if replace(one, path=two.path) != two:
        return False
    if one.path.read_bytes() == two.path.read_bytes():
        return True
    return np.array_equal(read_slice(one), read_slice(two))


def _check_consistent(headers: Sequence[SliceHeader]) -> None:
    for what, values in {
        "patients": {header.patient_id for header in headers},
        "studies": {header.study_uid for header in headers},
        "frames of reference": {header.frame_uid for header in headers},
        "modalities": {header.modality for header in headers},
    }.items():
        if len(values) > 1:
            raise MedsslError("SERIES_MIXED", f"One series UID covers {len(values)} {what}")
    echoes = sorted(header.echo_time or 0.0 for header in headers)
    if echoes[-1] - echoes[0] > _ECHO_TOLERANCE_MS:
        raise MedsslError("TIME_SERIES_UNSUPPORTED", "The slices have several echo times")
