"""How much different dimensions of embeddings have in common, over the batch of all processes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from medssl.processes import gather_rows, sum_processes, world


def off_diagonal(a: Tensor, b: Tensor | None = None) -> Tensor:
    """Sum over i != j of (aT b)_ij squared, a and b being the rows of all processes.

    The sum over all i, j also equals the sum over samples m, n of (a aT)_mn (b bT)_mn. So where
    samples are fewer than dimensions, the D x D matrix is never made, and the product is cheaper by
    about their ratio. Each process multiplies its own rows; value and gradient are the whole
    batch's, the latter in the convention of `gather_rows`.

    Args:
        a: float (B, D), equally many rows in every process.
        b: the same shape; None for a itself.
    """
    value: Tensor = _OffDiagonal.apply(a, b)  # type: ignore[no-untyped-call]
    return value


def by_samples(samples: int, dimensions: int, views: int) -> bool:
    """Whether products of samples are cheaper than those of dimensions, forward and backward.

    With two views: four products of (N, D) and (D, N) against three of (D, N) and (N, D); with one:
    two against two.
    """
    return 4 * samples <= 3 * dimensions if views == 2 else samples <= dimensions


class _OffDiagonal(torch.autograd.Function):
    """By hand, since autograd would multiply twice for each symmetric product."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor | None) -> Tensor:
        other = a if b is None else b
        ctx.one_view = b is None
        ctx.by_samples = by_samples(len(a) * world()[1], a.shape[1], 1 if b is None else 2)
        if not ctx.by_samples:
            product = sum_processes(a.T @ other).fill_diagonal_(0)
            ctx.save_for_backward(a, other, product)
            return _dot(product, product)
        all_a = gather_rows(a)
        all_b = all_a if b is None else gather_rows(b)
        alike_a = a @ all_a.T
        alike_b = alike_a if b is None else b @ all_b.T
        diagonal = sum_processes((a * other).sum(0))
        ctx.save_for_backward(a, other, diagonal, all_a, all_b, alike_a, alike_b)
        return sum_processes(_dot(alike_a, alike_b)) - _dot(diagonal, diagonal)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None]:
        scale = 2 * sum_processes(gradients[0])
        if ctx.one_view:
            scale = 2 * scale
        if ctx.by_samples:
            a, b, diagonal, all_a, all_b, alike_a, alike_b = ctx.saved_tensors
            for_a = (alike_b @ all_a).addcmul_(b, diagonal, value=-1)
            for_b = None if ctx.one_view else (alike_a @ all_b).addcmul_(a, diagonal, value=-1)
        else:
            a, b, product = ctx.saved_tensors
            for_a, for_b = b @ product.T, None if ctx.one_view else a @ product
        return for_a.mul_(scale), None if for_b is None else for_b.mul_(scale)


def _dot(x: Tensor, y: Tensor) -> Tensor:
    return torch.dot(x.flatten(), y.flatten())
