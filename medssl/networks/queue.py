"""The last embeddings of a run, kept on the device."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medssl.processes import gather_rows


class Queue(nn.Module):
    """The last rows that were put in, oldest first, the same in every process.

    It is part of the state, so that a resumed run has the rows it would have had. Before it is
    full it holds random unit vectors, as in He et al. 2020 ("MoCo", algorithm 1).

    Args:
        size: rows kept.
        width: of a row.

    Attributes:
        rows: float32 (size, width), without gradient.
    """

    rows: Tensor

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"a queue keeps at least one row, not {size}")
        self.register_buffer("rows", F.normalize(torch.randn(size, width)))

    @torch.no_grad()
    def push(self, rows: Tensor) -> None:
        """Put in (B, width) of this process and of all others, and let as many of the oldest go."""
        new = gather_rows(rows.detach().float())[-len(self.rows) :]
        self.rows = torch.cat((self.rows[len(new) :], new))

    @torch.no_grad()
    def nearest(self, rows: Tensor) -> Tensor:
        """Of each of (B, width) the kept row of largest inner product: float32 (B, width)."""
        with torch.autocast(rows.device.type, enabled=False):
            return self.rows[(rows.float() @ self.rows.T).argmax(dim=1)]
