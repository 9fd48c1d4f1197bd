"""Slices missing at the ends of a stack, which its own positions cannot show.

Two witnesses: a number of slices that the header states, and another series of the study that has
the same slices and more. Neither is proof, so both refusals can be allowed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import MedsslError
from medssl.ingest.headers import SliceHeader

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
