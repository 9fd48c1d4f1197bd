"""The loss of Mixed Barlow Twins: Barlow Twins, and mixed images correlate as they were mixed."""

from __future__ import annotations

from torch import Tensor, nn

from medssl.losses.barlow_twins import BarlowTwins, standardised
from medssl.losses.off_diagonal import off_diagonal
from medssl.losses.pairs import wide_pair
from medssl.processes import sum_processes, world


class MixedBarlow(nn.Module):
    """Mixed Barlow Twins (Bandara et al. 2023, "Guarding Barlow Twins against overfitting with
    mixed samples"), with the weights of its authors' program for small images.

    With standardised embeddings, the share α, a permutation p of samples and Zm the embeddings of
    α x1 + (1 - α) x2[p]: Barlow Twins(Z1, Z2) + mixing * redundancy * sum over V in (Z1, Z2) of
    ‖ZmT V - α Z1T V - (1 - α) Z2[p]T V‖² / N². What is subtracted is a target, but gradients flow
    through it. As the norm equals ‖(Zm - α Z1 - (1 - α) Z2[p])T V‖², one product a view is needed.
    In several processes the batch is that of all of them: value and (under DDP) gradient equal
    those of one process holding it.

    Args:
        redundancy: lambda of Barlow Twins, not below 0.
        mixing: lambda_reg, not below 0.
    """

    def __init__(self, redundancy: float = 0.005, mixing: float = 4.0) -> None:
        super().__init__()
        if mixing < 0:
            raise ValueError(f"the weight of mixing must not be below 0, but is {mixing}")
        self.mixing = mixing
        self._barlow = BarlowTwins(redundancy)

    def forward(
        self, z1: Tensor, z2: Tensor, mixed: Tensor, share: Tensor, partner: Tensor
    ) -> Tensor:
        """Scalar float32 (float64 for float64 input).

        Args:
            z1, z2: two views' projections, each (B, D).
            mixed: (B, D), of ``share`` of the first view and the rest of the second view of
                ``partner``.
            share: (), between 0 and 1, the same in every process.
            partner: int64 (B,), a permutation of this process's samples.

        Raises:
            ValueError: the shapes do not fit, or there is one sample alone.
        """
        if mixed.shape != z1.shape or partner.shape != z1.shape[:1] or share.ndim:
            raise ValueError(
                f"mixed projections are of the shape of a view, {tuple(z1.shape)}, with a partner "
                f"a row and one share; not {tuple(mixed.shape)}, {tuple(partner.shape)} and "
                f"{tuple(share.shape)}"
            )
        with wide_pair(z1, z2, "Mixed Barlow Twins") as (first, second):
            samples = len(first) * world()[1]
            a, b, mixture = (
                standardised(z, samples) for z in (first, second, mixed.to(first.dtype))
            )
            apart = mixture - (share * a + (1 - share) * b[partner])
            mismatch = (_square(apart, a) + _square(apart, b)) / samples**2
            weight = self.mixing * self._barlow.redundancy
            return self._barlow.of_standardised(a, b) + weight * mismatch


def _square(a: Tensor, b: Tensor) -> Tensor:
    """Sum of all squares of aT b over the rows of all processes."""
    return off_diagonal(a, b) + sum_processes((a * b).sum(0)).square().sum()
