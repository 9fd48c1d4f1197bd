"""Batch norm over the batch of all processes."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class _Sum(torch.autograd.Function):
    """Sum over the processes; so is its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total


class BatchNorm(nn.BatchNorm1d):
    """Batch norm (Ioffe and Szegedy 2015, alg. 1) whose statistics in training are those of the
    joined batch of all processes, each holding equally many rows: values and gradients are those of
    one process. Alone, it is torch's, with the same state dict.

    Shape: (B, C) -> (B, C).
    """

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        together = self.training and dist.is_available() and dist.is_initialized()
        if not together or dist.get_world_size() == 1:
            return super().forward(x)
        if x.ndim != 2:
            raise ValueError(f"this batch norm takes (B, C), not {tuple(x.shape)}")
        count = len(x) * dist.get_world_size()
        with torch.autocast(x.device.type, enabled=False):
            wide = x if x.dtype == torch.float64 else x.float()
            mean = _total(wide.sum(0)) / count
            centred = wide - mean
            # After the mean, not as E[x^2] - mean^2, which cancels.
            variance = _total(centred.square().sum(0)) / count
            self._remember(mean.detach(), variance.detach() * count / max(1, count - 1))
            normed = centred * (variance + self.eps).rsqrt()
            if self.affine:
                normed = torch.addcmul(self.bias, normed, self.weight)
        return normed.to(x.dtype)

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            step = self.momentum if self.momentum is not None else 0.1
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), step)
            self.running_var.lerp_(variance.to(self.running_var.dtype), step)


def _total(x: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(x)  # type: ignore[no-untyped-call]
    return total
