"""What every change of intensity is made of."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Change:
    """What was drawn for one kind of change: its tensors have a row for each of B samples."""

    def apply(self, batch: Tensor, spacing: Tensor | None) -> Tensor:
        """The changed batch.

        Args:
            batch: float32 (B, C, *spatial); on a CPU it may be overwritten.
            spacing: mm per voxel, float32 (B, d), or None where it is not known.
        """
        raise TypeError(f"{type(self).__name__} changes nothing")

    def rows(self, which: slice) -> Self:
        """The same for some of the samples."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        tensors = {name: v[which] for name, v in values.items() if isinstance(v, Tensor)}
        return dataclasses.replace(self, **tensors)


def on_picked(
    picked: Tensor, change: Callable[..., Tensor], batch: Tensor, *values: Tensor
) -> Tensor:
    """`change(batch, *values)` for the samples that are picked, the others as they were.

    On a CPU only those are computed, and written into `batch`. On an accelerator that would need
    their number, and so a wait for the device: there all are computed, and one or the other is
    taken.

    Args:
        picked: bool (B,).
        change: takes B' samples and rows, gives B' samples.
        batch: (B, C, *spatial).
        values: what else `change` takes, with a row for each sample.
    """
    if batch.device.type != "cpu":
        return torch.where(each(picked, batch), change(batch, *values), batch)
    chosen = picked.nonzero()[:, 0]
    if len(chosen) == 0:
        return batch
    if len(chosen) == len(batch):
        return change(batch, *values)
    part = change(batch[chosen], *(value[chosen] for value in values))
    return batch.index_copy_(0, chosen, part)


def each(values: Tensor, batch: Tensor) -> Tensor:
    """(B,) ready to broadcast against the batch."""
    return values.reshape(-1, *(1,) * (batch.ndim - 1))


def one_of(unit: Tensor, count: int) -> Tensor:
    """Numbers in [0, 1) as evenly drawn whole numbers 0, ..., count - 1: int64."""
    return (unit * count).long().clamp_(max=count - 1)


def moments(batch: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every channel of every sample, (B, C, 1, ...)."""
    axes = tuple(range(2, batch.ndim))
    mean = batch.mean(axes, keepdim=True)
    power = torch.linalg.vector_norm(batch - mean, 2, axes, keepdim=True)
    return mean, power / math.sqrt(math.prod(batch.shape[2:]))


def signal_zero(batch: Tensor) -> Tensor:
    """Where a scanner's zero lies in every channel, (B, C, 1, ...): its least value.

    Normalised images have their zero elsewhere, but what multiplies a signal, or takes its
    magnitude, has to know where there was none.
    """
    return batch.amin(tuple(range(2, batch.ndim)), keepdim=True)


def per_sample(spacing: Tensor | None, batch: Tensor) -> Tensor:
    """The spacing, or 1 along every axis where there is none: (B, d)."""
    if spacing is None:
        return torch.ones(len(batch), batch.ndim - 2, device=batch.device)
    return spacing
