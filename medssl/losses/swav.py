"""The loss of SwAV: each view predicts the assignment of another."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medssl.losses.sinkhorn import sinkhorn
from medssl.processes import mean_value


class SwAV(nn.Module):
    """Swapped prediction (Caron et al. 2020, "Unsupervised learning of visual features by
    contrasting cluster assignments", eq. 1 and 2; of several views, eq. 6).

    With s_v the cosines of view v to K prototypes and q_a the equipartitioned assignment of the
    assigning view a: mean over a, over v != a and over samples of -sum_k q_a log softmax(s_v /
    temperature). Assignments are over the batch of all processes and have no gradient; value and
    (under DDP) gradient equal those of one process holding the whole batch. Where all embeddings
    are one, the loss is at least ln K.

    Args:
        temperature: > 0, of the predictions.
        epsilon, iterations: of the assignments (:func:`medssl.losses.sinkhorn`).
    """

    def __init__(
        self, temperature: float = 0.1, epsilon: float = 0.05, iterations: int = 3
    ) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"the temperature must be above 0, not {temperature}")
        self.temperature, self.epsilon, self.iterations = temperature, epsilon, iterations

    def assign(self, scores: Tensor, queued: Tensor | None = None) -> Tensor:
        """The assignments (B, K) of one view's scores, beside queued ones (M, K)."""
        return sinkhorn(scores, self.epsilon, self.iterations, queued)

    def forward(self, scores: Sequence[Tensor], codes: Sequence[Tensor]) -> Tensor:
        """Scalar.

        Args:
            scores: (B, K) of each view, at least two; float32 or float64.
            codes: the assignments of the first of these views, one or more.

        Raises:
            ValueError: the shapes are not the same (B, K), or there are too few views.
        """
        shapes = {tuple(rows.shape) for rows in (*scores, *codes)}
        if len(scores) < 2 or not 1 <= len(codes) <= len(scores):
            raise ValueError(
                "swapped prediction needs two or more views, one or more of them with assignments, "
                f"not {len(scores)} and {len(codes)}"
            )
        if len(shapes) != 1 or scores[0].ndim != 2:
            raise ValueError(f"swapped prediction needs scores of one shape (B, K), not {shapes}")
        with torch.autocast(scores[0].device.type, enabled=False):
            predictions = torch.stack([(s / self.temperature).log_softmax(1) for s in scores])
            assigned = torch.stack(list(codes)).to(predictions.dtype)
            each = -torch.einsum("abk,vbk->av", assigned, predictions) / len(scores[0])
            same = each.diagonal().sum()
            count = len(codes) * (len(scores) - 1)
            return mean_value((each.sum() - same) / count)
