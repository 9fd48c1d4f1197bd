"""A predictor that is not trained, but computed from what it has to predict."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medssl.processes import sum_processes, world


class DirectPredictor(nn.Module):
    """The linear predictor of DirectPred (Tian et al. 2021, "Understanding self-supervised learning
    dynamics without contrastive pairs", sec. 4 and eq. 18).

    F = rho F + (1 - rho) E[f fT] over the samples of all processes; with its eigenvectors U and
    eigenvalues s, p = sqrt(s / max s) + eps and W = U diag(p) UT. In training every forward moves F
    and sets W from it, once for all rows: CUDA waits for the eigenvalues.

    Args:
        width: D of the projections.
        rho: momentum of F, from 0 to below 1.
        eps: lifts all eigenvalues, so that weak directions can grow.

    Attributes:
        correlation: F, float32 (D, D), part of the state, the same in every process.
        weight: W, float32 (D, D), part of the state.

    Shape: (B, D) -> (B, D).
    """

    correlation: Tensor
    weight: Tensor

    def __init__(self, width: int, rho: float = 0.3, eps: float = 0.01) -> None:
        super().__init__()
        if not 0 <= rho < 1:
            raise ValueError(f"rho must be at least 0 and below 1, not {rho}")
        self.rho, self.eps = rho, eps
        self.register_buffer("correlation", torch.zeros(width, width))
        self.register_buffer("weight", torch.eye(width))

    def forward(self, projections: Tensor) -> Tensor:
        """See the class."""
        if self.training:
            self._follow(projections)
        return F.linear(projections, self.weight)

    @torch.no_grad()
    def _follow(self, projections: Tensor) -> None:
        with torch.autocast(projections.device.type, enabled=False):
            f = projections.float()
            mean = sum_processes(f.T @ f) / (len(f) * world()[1])
            self.correlation.lerp_(mean, 1.0 - self.rho)
            self.weight.copy_(spectral_root(self.correlation, self.eps))


def spectral_root(correlation: Tensor, eps: float) -> Tensor:
    """U diag(sqrt(s / max s) + eps) UT of the eigenvectors U and eigenvalues s of a symmetric
    matrix (D, D) that has none below 0; NaN where a value is not finite.
    """
    # The solver raises where it is given a NaN, in a run that should stop with a message.
    finite = correlation.isfinite().all()
    s, u = torch.linalg.eigh(correlation.where(finite, 0.0))
    s = s.clamp(min=0)
    p = (s / s[-1].clamp(min=torch.finfo(s.dtype).tiny)).sqrt() + eps
    root: Tensor = (u * p) @ u.T
    return root.where(finite, torch.nan)
