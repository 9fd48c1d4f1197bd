"""Soft assignments that use all prototypes alike, over the rows of all processes."""

from __future__ import annotations

import torch
from torch import Tensor

from medssl.processes import gather_rows


@torch.no_grad()
def sinkhorn(
    scores: Tensor, epsilon: float = 0.05, iterations: int = 3, shared: Tensor | None = None
) -> Tensor:
    """Assign rows to prototypes by Sinkhorn-Knopp (Cuturi 2013; Caron et al. 2020, "SwAV", eq. 3
    to 5).

    Q = diag(u) exp(scores / epsilon) diag(v), where v and u are set in turn, so that the columns
    add up to 1/K and the rows to 1/N; given back is N Q. In logarithms, so that nothing overflows.
    The N rows are those of all processes, each holding equally many, and the shared ones.

    Args:
        scores: (B, K), of this process's rows to K prototypes.
        epsilon: > 0; the smaller, the harder the assignments.
        iterations: rounds; with none, each row's softmax, which may leave prototypes unused.
        shared: (M, K), further rows that every process holds alike, as a queue does.

    Returns:
        (B, K) float32 (float64 for float64 scores) without gradient; each row adds up to 1, and the
        mean over the N rows nears 1/K with every round.

    Raises:
        ValueError: the shapes are not (B, K) and (M, K), or a number is out of its range.
    """
    if scores.ndim != 2 or (shared is not None and shared.shape[1:] != scores.shape[1:]):
        raise ValueError(
            f"assignments need scores of shape (B, K) and (M, K), not {tuple(scores.shape)}"
            + ("" if shared is None else f" and {tuple(shared.shape)}")
        )
    if epsilon <= 0 or iterations < 0:
        raise ValueError("epsilon must be above 0, and iterations not below 0")
    wide = scores.double() if scores.dtype == torch.float64 else scores.float()
    mine = wide / epsilon
    others = None if shared is None else shared.to(wide.dtype) / epsilon
    columns: Tensor | None = None
    for _ in range(iterations):
        # A part for each process, in order of rank: every process adds up the same numbers.
        parts = gather_rows(_column_sums(mine, columns)[None])
        if others is not None:
            parts = torch.cat((parts, _column_sums(others, columns)[None]))
        columns = -parts.logsumexp(0)
    return (mine if columns is None else mine + columns).softmax(1)


def _column_sums(scaled: Tensor, columns: Tensor | None) -> Tensor:
    """log of the sums over rows (K,), the rows scaled to add up to 1 with these columns."""
    if columns is not None:
        scaled = scaled - (scaled + columns).logsumexp(1, keepdim=True)
    return scaled.logsumexp(0)
