"""The last embeddings of a run with the subjects they are of, kept on the device."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medssl.processes import gather_rows


class SubjectQueue(nn.Module):
    """The last rows that were put in and whose they are, oldest first, the same in every process.

    It is part of the state, so that a resumed run has the rows it would have had.

    Args:
        size: rows kept; 0: none, and only the batch itself has others.
        width: of a row.

    Attributes:
        rows: float32 (size, width), without gradient; zeros where none has been put in yet.
        subject: int64 (size,), -1 there.
    """

    rows: Tensor
    subject: Tensor

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        if size < 0:
            raise ValueError(f"a queue keeps rows or none, not {size}")
        self.register_buffer("rows", torch.zeros(size, width))
        self.register_buffer("subject", torch.full((size,), -1))

    @torch.no_grad()
    def push(self, rows: Tensor, subject: Tensor) -> None:
        """Put in (B, width) of the subjects (B,) of this process and of all others, and let as many
        of the oldest go."""
        size = len(self.rows)
        both = (self.rows, rows.detach().float()), (self.subject, subject)
        self.rows, self.subject = (
            torch.cat((kept, gather_rows(new)))[-size:] if size else kept for kept, new in both
        )

    @torch.no_grad()
    def others(self, rows: Tensor, subject: Tensor) -> tuple[Tensor, Tensor]:
        """What there is beside a batch (B, width) of the subjects (B,): in that of all processes,
        and in the queue.

        Returns:
            float32 (N, width); and bool (B, N), which are of another subject.
        """
        found = torch.cat((gather_rows(rows.detach().float()), self.rows))
        whose = torch.cat((gather_rows(subject), self.subject))
        return found, (whose != subject[:, None]) & (whose >= 0)
