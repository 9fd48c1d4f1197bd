"""The loss of Barlow Twins: decorrelate dimensions, agree on each."""

from __future__ import annotations

from torch import Tensor, nn

from medssl.losses.off_diagonal import off_diagonal
from medssl.losses.pairs import centred, wide_pair
from medssl.processes import sum_processes, world

_EPSILON = 1e-5


class BarlowTwins(nn.Module):
    """Barlow Twins (Zbontar et al. 2021, "Barlow Twins: self-supervised learning via redundancy
    reduction", eq. 1 and 2).

    With C_ij the correlation over the batch of dimension i of the first view with dimension j of
    the second: sum over i of (1 - C_ii)^2 + redundancy * sum over i != j of C_ij^2. Variances get
    1e-5 added, as in the authors' batch norm, so that a constant dimension correlates with nothing.
    In several processes the batch is that of all of them: value and (under DDP) gradient equal
    those of one process holding it.

    Args:
        redundancy: lambda of the paper, not below 0.
    """

    def __init__(self, redundancy: float = 0.005) -> None:
        super().__init__()
        if redundancy < 0:
            raise ValueError(f"the weight of redundancy must not be below 0, but is {redundancy}")
        self.redundancy = redundancy

    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        """Scalar float32 (float64 for float64 input) of two views' projections, each (B, D).

        Raises:
            ValueError: the shapes are not the same (B, D), or there is one sample alone.
        """
        with wide_pair(z1, z2, "Barlow Twins") as (first, second):
            samples = len(first) * world()[1]
            a, b = (standardised(z, samples) for z in (first, second))
            return self.of_standardised(a, b)

    def of_standardised(self, a: Tensor, b: Tensor) -> Tensor:
        """The same of embeddings that are standardised already."""
        samples = len(a) * world()[1]
        agreement = sum_processes((a * b).sum(0)) / samples
        redundancy = off_diagonal(a, b) / samples**2
        return (1 - agreement).square().sum() + self.redundancy * redundancy


def standardised(z: Tensor, samples: int) -> Tensor:
    """(B, D) with mean 0 and variance 1 over the ``samples`` of all processes."""
    z = centred(z)
    variance = sum_processes(z.square().sum(0)) / samples
    return z * (variance + _EPSILON).rsqrt()
