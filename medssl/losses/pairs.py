"""What losses of two views' embeddings share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from medssl.processes import sum_processes, world


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
