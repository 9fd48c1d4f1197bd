"""The loss of VICReg: variance, invariance, covariance."""

from __future__ import annotations

from torch import Tensor, nn

from medssl.losses.off_diagonal import off_diagonal
from medssl.losses.pairs import centred, wide_pair
from medssl.processes import sum_processes, world

_EPSILON = 1e-4


class VICReg(nn.Module):
    """VICReg (Bardes et al. 2022, "VICReg: variance-invariance-covariance regularization", eq. 6):
    invariance * s(Z, Z') + variance * [v(Z) + v(Z')] + covariance * [c(Z) + c(Z')], with

    - s: mean squared difference of the views, over samples and dimensions (as in the paper's
      algorithm 1; its eq. 5 sums over dimensions);
    - v: mean over dimensions of max(0, 1 - sqrt(variance + 1e-4));
    - c: sum over i != j of the squared covariance of dimensions i and j, over D.

    The authors' program weighs v(Z) and v(Z') by a half each: `variance=12.5` gives that.
    In several processes the batch is that of all of them: value and (under DDP) gradient equal
    those of one process holding it.

    Args:
        invariance, variance, covariance: the weights, not below 0.
    """

    def __init__(
        self, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0
    ) -> None:
        super().__init__()
        if min(invariance, variance, covariance) < 0:
            raise ValueError("the weights of VICReg must not be below 0")
        self.invariance, self.variance, self.covariance = invariance, variance, covariance

    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        """Scalar float32 (float64 for float64 input) of two views' embeddings, each (B, D).

        Raises:
            ValueError: the shapes are not the same (B, D), or there is one sample alone.
        """
        with wide_pair(z1, z2, "VICReg") as (first, second):
            samples, dimensions = len(first) * world()[1], first.shape[1]
            apart = sum_processes((first - second).square().sum()) / (samples * dimensions)
            spread, common = first.new_zeros(()), first.new_zeros(())
            for view in (first, second):
                z = centred(view)
                variance = sum_processes(z.square().sum(0)) / (samples - 1)
                spread = spread + (1 - (variance + _EPSILON).sqrt()).relu().mean()
                common = common + off_diagonal(z) / ((samples - 1) ** 2 * dimensions)
            return self.invariance * apart + self.variance * spread + self.covariance * common
