"""The loss of DeepCluster: every view is told its volume's cluster."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medssl.processes import mean_value


class DeepCluster(nn.Module):
    """Cross entropy with cluster assignments (Caron et al. 2018, "Deep clustering for unsupervised
    learning of visual features", eq. 1, the classifier being the centroids: "DeepCluster-v2", Caron
    et al. 2020, appendix).

    With s_v the cosines of view v to K centroids and c the cluster of the volume: mean over views
    and samples of -log softmax(s_v / temperature)[c].

    Args:
        temperature: > 0.
    """

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"the temperature must be above 0, not {temperature}")
        self.temperature = temperature

    def forward(self, scores: Sequence[Tensor], clusters: Tensor) -> Tensor:
        """Scalar.

        Args:
            scores: (B, K) of each view; float32 or float64.
            clusters: int64 (B,), from 0 to K - 1.

        Raises:
            ValueError: there are no views, or the shapes do not fit.
        """
        shapes = {tuple(rows.shape) for rows in scores}
        if len(shapes) != 1 or scores[0].shape[:-1] != clusters.shape or clusters.ndim != 1:
            raise ValueError(
                "cluster assignments (B,) go with scores of one shape (B, K), not "
                f"{tuple(clusters.shape)} with {sorted(shapes)}"
            )
        with torch.autocast(scores[0].device.type, enabled=False):
            logits = torch.cat(list(scores)) / self.temperature
            return mean_value(F.cross_entropy(logits, clusters.repeat(len(scores))))
