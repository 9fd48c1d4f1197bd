"""The last embedding of every volume, kept on the device."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medssl.processes import gather_rows


class Memory(nn.Module):
    """One row a volume, the same in every process.

    It is part of the state, so that a resumed run remembers what it would have. It takes 4 bytes a
    number: 51 MB for 100,000 volumes and rows of 128.

    Args:
        volumes: how many there are.
        width: of a row.

    Attributes:
        rows: float32 (volumes, width), zeros for a volume not seen yet.
    """

    rows: Tensor

    def __init__(self, volumes: int, width: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(volumes, width))

    @torch.no_grad()
    def put(self, volume: Tensor, rows: Tensor) -> None:
        """Remember rows (B, width) of the volumes (B,) of this process and of all others; of a
        volume that comes several times, the first."""
        volume, rows = gather_rows(volume), gather_rows(rows.float())
        # All rows of a volume write the same: which is written last does not matter.
        first = (volume[:, None] == volume).to(torch.uint8).argmax(1)
        self.rows[volume] = rows[first]

    def seen(self) -> Tensor:
        """The numbers of the volumes seen so far, int64 (N,), in ascending order; waits for the
        device."""
        return self.rows.any(1).nonzero()[:, 0]
