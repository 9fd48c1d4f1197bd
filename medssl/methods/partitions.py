"""Partitions: equal parts of every volume along one axis of the body, numbered alike in all.

In volumes that show the same region of the body, crops of one partition show like anatomy, whoever
they are of (Chaitanya et al. 2020, sec. 3.1).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from medssl.errors import MedsslError
from medssl.methods.base import Crops, Samples
from medssl.processes import sum_processes, world

Axis = Literal["right", "front", "up", "rows", "columns"]

_ACROSS: dict[str, Axis] = {"axial": "up", "coronal": "front", "sagittal": "right"}
_OF_VOLUMES: tuple[Axis, ...] = ("right", "front", "up")
_OF_PICTURES: tuple[Axis, ...] = ("rows", "columns")


def axis_number(axis: Axis | None, samples: Samples) -> int | None:
    """Which axis of the volumes is divided.

    Args:
        axis: by name; None: the one across the plane of 2D crops of volumes, of 3D crops that from
            the feet up, of pictures that from row to row.
        samples: what crops are.

    Returns:
        its number; None where crops lie in planes of all kinds, and each is divided across its own.

    Raises:
        ValueError: volumes, or pictures, have no such axis.
    """
    names = _OF_VOLUMES if samples.plane or len(samples.patch_size) == 3 else _OF_PICTURES
    if axis is None:
        if samples.plane == "any":
            return None
        axis = _ACROSS[samples.plane] if samples.plane else names[-1 if len(names) == 3 else 0]
    if axis not in names:
        raise ValueError(f"axis is one of {', '.join(names)} here, not {axis}")
    return names.index(axis)


def partition_of(crops: Crops, axis: int | None, count: int) -> Tensor:
    """The partition that the centre of each crop lies in: int64 (B,), from 0 up.

    Args:
        crops: of volumes that show the same region.
        axis: from :func:`axis_number`; with None, partitions of distinct axes have distinct
            numbers.
        count: of partitions along an axis.
    """
    centre = crops.centre()
    if axis is not None:
        return _numbered(centre[:, axis], count)
    across = crops.place[:, :, :-1].abs().sum(2).argmin(1)  # no step in the plane moves along it
    return _numbered(centre.gather(1, across[:, None])[:, 0], count) + count * across


def check_reach(crops: Crops, axis: int | None, count: int) -> None:
    """Look whether crops this large can come from several partitions; waits for the device.

    Raises:
        MedsslError: CONFIG_INVALID: their centres lie within less than a partition's width.
    """
    size = torch.tensor(crops.image.shape[2:], device=crops.place.device)
    spans = (crops.place[:, :, :-1].abs() * size).sum(2) / crops.extent
    own = (spans.amin(1) if axis is None else spans[:, axis]).mean()
    span = float(sum_processes(own) / world()[1])  # so that all processes stop, or none
    if 1 - span < 1 / count:
        raise MedsslError(
            "CONFIG_INVALID",
            f"A crop spans {span:.0%} of a volume along the axis that is divided into {count} "
            "partitions, so that hardly any two crops come from different ones",
            where="patch_size or axis",
            fix=f"Make the patch at most {1 - 1 / count:.0%} as long as the volumes there, better "
            f"{1 / count:.0%}, or divide along another axis.",
        )


def _numbered(relative: Tensor, count: int) -> Tensor:
    return (relative * count).floor().long().clamp(0, count - 1)
