"""Slices missing at the ends of a stack, which its own positions cannot show.

Two witnesses: a number of slices that the header states, and another series of the study that has
the same slices and more. Neither is proof, so both refusals can be allowed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import MedsslError
from medssl.ingest.headers import SliceHeader
from medssl.ingest.pseudonym import Pseudonymizer
from medssl.ingest.rejection import Rejection
from medssl.ingest.volume import DicomVolume
from medssl.store.grid import source_affine

Array = npt.NDArray[Any]

CODE = "SLICES_FEWER_THAN_SIBLING"
SAME_GRID = 0.05
"""How far slices of two series may be from each other's places, in voxels."""


def check_stated(headers: Sequence[SliceHeader], in_series: int) -> None:
    """Compare a volume with the numbers that its headers state.

    Images in Acquisition (0020,1002) counts a volume with some makers and a series with others, so
    a number refuses only where it exceeds both.

    Args:
        headers: the volume's slices.
        in_series: how many slices its whole series has.

    Raises:
        MedsslError: SLICES_FEWER_THAN_STATED.
    """
    stated = max((count for header in headers for count in header.stated), default=0)
    if stated > max(len(headers), in_series):
        raise MedsslError(
            "SLICES_FEWER_THAN_STATED", f"{len(headers)} of {stated} stated slices are there"
        )


def is_part_of(one: Array, slices: int, other: Array, others: int) -> bool:
    """Whether a stack is a smaller piece of another on the same grid, along the slices alone.

    Args:
        one: affine, 4x4, voxel (column, row, slice) to mm.
        slices: how many it has.
        other: the other's affine.
        others: how many that one has.
    """
    if slices >= others:
        return False
    moved = np.linalg.inv(other) @ one
    first = moved[:3, 3]
    last = (moved @ [0.0, 0.0, slices - 1.0, 1.0])[:3]
    same_axes = np.allclose(moved[:3, :3], np.eye(3), atol=SAME_GRID / max(1, slices))
    offset = float(np.rint(first[2]))
    on_grid = np.abs(first - [0.0, 0.0, offset]).max() <= SAME_GRID
    ends = np.abs(last - [0.0, 0.0, offset + slices - 1]).max() <= SAME_GRID
    return bool(same_axes and on_grid and ends and 0 <= offset <= others - slices)


@dataclass(frozen=True)
class Extent:
    """Where the slices of a volume lie, to be compared with those of others.

    Attributes:
        place: study, frame of reference, modality, rows and columns: what volumes must share to be
            compared. UIDs, or pseudonyms throughout.
        series: of the volume.
        affine: 4x4, voxel (column, row, slice) to RAS mm.
        slices: how many.
    """

    place: tuple[object, ...]
    series: str
    affine: Array
    slices: int

    @classmethod
    def of(cls, volume: DicomVolume, names: Pseudonymizer | None = None) -> Extent | None:
        """That of a volume, with UIDs or pseudonyms; None where it cannot be compared."""
        first, original = volume.headers[0], volume.original
        if volume.affine is None or not first.study_uid or not first.frame_uid:
            return None
        if original is not None and original.positions:
            return None  # unevenly spaced slices lie on no grid
        study, frame, series = first.study_uid, first.frame_uid, first.series_uid
        if names is not None:
            study, frame, series = names.study(study), names.frame(frame), names.series(series)
        affine = volume.affine if original is None else original.matrix
        place = study, frame, first.modality, *first.pose.shape
        return cls(place, series, affine, len(volume.headers))

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Extent | None:
        """That of a volume of a store, with pseudonyms; None where it cannot be compared."""
        known = row["source"] == "dicom" and row["dims"] == 3 and row["study_id"]
        if not known or not row.get("frame_id") or row["source_positions"]:
            return None
        if row["source_affine"]:
            affine = np.reshape(row["source_affine"], (4, 4))
            columns, rows, slices = row["source_shape"]
        else:
            codes, shape = row["source_orientation"], row["shape"]
            affine = source_affine(np.reshape(row["affine"], (4, 4)), shape, codes)
            columns, rows, slices = (shape["RLAPSI".index(code) // 2] for code in codes)
        place = row["study_id"], row["frame_id"], row["modality"], rows, columns
        return cls(place, row["series_id"], affine, slices)

    def is_piece_of(self, other: Extent) -> bool:
        """Whether another series has the same slices and more."""
        if self.place != other.place or self.series == other.series:
            return False
        return is_part_of(self.affine, self.slices, other.affine, other.slices)


COLUMNS = [
    *("source", "dims", "study_id", "frame_id", "series_id", "modality", "shape", "affine"),
    *("source_orientation", "source_affine", "source_shape", "source_positions"),
]
"""The columns of the manifest that :meth:`Extent.of_row` reads."""


def beside_siblings(
    volumes: list[DicomVolume],
    allow: Collection[str],
    before: Collection[Extent] | None = None,
    names: Pseudonymizer | None = None,
) -> tuple[list[DicomVolume], list[Rejection]]:
    """Refuse series that have a volume which is a piece of another one of their study.

    Args:
        volumes: of all series.
        allow: with SLICES_FEWER_THAN_SIBLING, such volumes are marked and kept.
        before: volumes of a store to compare with, instead of with each other.
        names: the pseudonymizer of that store.

    Returns:
        the volumes that are left, and a rejection for each series refused.
    """
    extents = [Extent.of(volume, names) for volume in volumes]
    places: dict[tuple[object, ...], list[Extent]] = {}
    for extent in extents if before is None else before:
        if extent is not None:
            places.setdefault(extent.place, []).append(extent)
    short = {
        id(volume)
        for volume, extent in zip(volumes, extents, strict=True)
        if extent is not None and any(map(extent.is_piece_of, places.get(extent.place, ())))
    }
    if CODE in allow:
        marked = [
            replace(v, defects=list(dict.fromkeys([*v.defects, CODE]))) if id(v) in short else v
            for v in volumes
        ]
        return marked, []
    refused: dict[str, list[Path]] = {v.series_uid: [] for v in volumes if id(v) in short}
    kept = []
    for volume in volumes:
        if volume.series_uid in refused:
            refused[volume.series_uid] += [*volume.files, *volume.duplicates]
        else:
            kept.append(volume)
    text = "Another series of the study has these slices and more"
    paths = (list(dict.fromkeys(files)) for files in refused.values())
    return kept, [Rejection(files, CODE, text) for files in paths]


def outgrown(before: Iterable[Extent], new: Collection[Extent]) -> int:
    """How many series of a store have a volume that is a piece of a new one of their study."""
    return len({old.series for old in before if any(map(old.is_piece_of, new))})
