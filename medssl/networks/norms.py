"""Batch norm over the batch of all processes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medssl.processes import sum_processes, world


class BatchNorm(nn.BatchNorm1d):
    """Batch norm (Ioffe and Szegedy 2015, alg. 1) whose statistics in training are those of the
    joined batch of all processes, each holding equally many rows: values and gradients are those of
    one process. Alone, it is torch's, with the same state dict.

    Shape: (B, C) -> (B, C).
    """

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        size = world()[1]
        if not self.training or size == 1:
            return super().forward(x)
        if x.ndim != 2:
            raise ValueError(f"this batch norm takes (B, C), not {tuple(x.shape)}")
        count = len(x) * size
        with torch.autocast(x.device.type, enabled=False):
            wide = x if x.dtype == torch.float64 else x.float()
            mean = sum_processes(wide.sum(0)) / count
            centred = wide - mean
            # After the mean, not as E[x^2] - mean^2, which cancels.
            variance = sum_processes(centred.square().sum(0)) / count
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
