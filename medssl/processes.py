"""Rows and sums over all processes, with gradients: for what looks across the whole batch."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world() -> tuple[int, int]:
    """(rank of this process, number of processes); (0, 1) where nothing is distributed."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


class _GatherRows(torch.autograd.Function):
    """All-gather whose backward adds up what every process asks of this process's rows.

    Without the sum (the raw all_gather has no gradient) the value is right and the gradient is not.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        rank, size = world()
        ctx.rank, ctx.rows = rank, len(rows)
        parts = [torch.empty_like(rows) for _ in range(size)]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        gradient = gradients[0].contiguous().clone()
        dist.all_reduce(gradient)
        start = ctx.rank * ctx.rows
        return gradient[start : start + ctx.rows]


def gather_rows(rows: Tensor) -> Tensor:
    """(B, D) here -> (B x processes, D), in order of rank, with the gradient of all processes.

    Every process must hold equally many rows. The gradient at `rows` is that of the SUM of the
    processes' losses; DDP then averages parameter gradients, which makes it that of their mean.
    """
    if world()[1] == 1:
        return rows
    gathered: Tensor = _GatherRows.apply(rows)  # type: ignore[no-untyped-call]
    return gathered


class _SumProcesses(torch.autograd.Function):
    """All-reduce, whose backward adds up what every process asks of the sum."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        return _all_reduced(part)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _all_reduced(gradients[0])


def _all_reduced(part: Tensor) -> Tensor:
    total = part.contiguous().clone()
    dist.all_reduce(total)
    return total


def sum_processes(part: Tensor) -> Tensor:
    """The sum over processes of a tensor of one shape, with the gradient of all processes.

    The gradient at `part` is that of the SUM of the processes' losses, as in `gather_rows`.
    """
    if world()[1] == 1:
        return part
    total: Tensor = _SumProcesses.apply(part)  # type: ignore[no-untyped-call]
    return total


def mean_value(loss: Tensor) -> Tensor:
    """The same gradient, but the value is the mean over processes: all report the same one."""
    size = world()[1]
    if size == 1:
        return loss
    total = loss.detach().clone()
    dist.all_reduce(total)
    return loss + (total / size - loss.detach())


def from_first(tensor: Tensor) -> Tensor:
    """The first process's tensor, in every process: for what devices may round differently."""
    if world()[1] == 1:
        return tensor
    same = tensor.detach().contiguous().clone()
    dist.broadcast(same, 0)
    return same
