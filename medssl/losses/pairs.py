"""What losses of two views' embeddings share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from medssl.processes import gather_rows, sum_processes, world


@contextmanager
def wide_pair(z1: Tensor, z2: Tensor, name: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Both in float32 (float64 stays), autocast being off inside.

    Raises:
        ValueError: the shapes are not the same (B, D), or there is one sample alone.
    """
    if z1.ndim != 2 or z1.shape != z2.shape:
        raise ValueError(
            f"{name} compares two views of shape (B, D), not {tuple(z1.shape)} and "
            f"{tuple(z2.shape)}"
        )
    if len(z1) * world()[1] < 2:
        raise ValueError(f"{name} needs at least two samples in the batch")
    with torch.autocast(z1.device.type, enabled=False):
        double = torch.float64 in (z1.dtype, z2.dtype)
        wide = torch.float64 if double else torch.float32
        yield z1.to(wide), z2.to(wide)


def centred(z: Tensor) -> Tensor:
    """(B, D) minus the mean over the samples of all processes."""
    return z - sum_processes(z.sum(0)) / (len(z) * world()[1])


def similarities(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Cosines of two views' (B, D) with those of all processes.

    Returns:
        (2B, 2B x processes), the first view's rows before the second's; and int64 (2B,) each, the
        columns of a row's own and of its other view.
    """
    rank, size = world()
    rows = len(first)
    first, second = F.normalize(first), F.normalize(second)
    candidates = torch.cat((gather_rows(first), gather_rows(second)))
    local = torch.arange(rows, device=first.device) + rank * rows
    other = local + rows * size
    cosines = torch.cat((first, second)) @ candidates.T
    return cosines, torch.cat((local, other)), torch.cat((other, local))
