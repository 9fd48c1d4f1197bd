"""Slices missing at the ends of a stack, which its own positions cannot show.

Two witnesses: a number of slices that the header states, and another series of the study that has
the same slices and more. Neither is proof, so both refusals can be allowed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import MedsslError
from medssl.ingest.headers import SliceHeader
from medssl.ingest.rejection import Rejection
from medssl.ingest.volume import DicomVolume

Array = npt.NDArray[Any]

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


def beside_siblings(
    volumes: list[DicomVolume], allow: Collection[str]
) -> tuple[list[DicomVolume], list[Rejection]]:
    """Refuse series that have a volume which is a piece of another one of their study.

    Args:
        volumes: of all series.
        allow: with SLICES_FEWER_THAN_SIBLING, such volumes are marked and kept.

    Returns:
        the volumes that are left, and a rejection for each series refused.
    """
    code = "SLICES_FEWER_THAN_SIBLING"
    places: dict[tuple[object, ...], list[DicomVolume]] = {}
    for volume in volumes:
        places.setdefault(_grid(volume), []).append(volume)
    short = {id(v) for v in volumes if any(_is_piece(v, other) for other in places[_grid(v)])}
    if code in allow:
        marked = [replace(v, defects=[*v.defects, code]) if id(v) in short else v for v in volumes]
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
    return kept, [Rejection(files, code, text) for files in paths]


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
