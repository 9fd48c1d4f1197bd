"""The loss of volumes and their slices that are to be assigned to the same prototypes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medssl.processes import mean_value


class InterDimension(nn.Module):
    """Agreement between dimensions (after Nguyen et al. 2023, "Joint self-supervised image-volume
    representation learning with intra-inter contrastive clustering"): as in swapped prediction
    (Caron et al. 2020, "SwAV", eq. 2), but from a volume to its slices and back.

    With s the cosines of a view to K prototypes, of the volume (v) or of its slices (w), and q the
    mean of the assignments of either's views:

        1/2 mean over samples of  - sum_k q_w mean_v log softmax(s_v / t)_k
                                  - sum_k q_v mean_w log softmax(s_w / t)_k

    Assignments have no gradient. Where all embeddings are one, it is at least ln K.

    Args:
        temperature: t > 0, of the predictions.
    """

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"the temperature must be above 0, not {temperature}")
        self.temperature = temperature

    def forward(
        self, volumes: Tensor, volume_codes: Tensor, slices: Tensor, slice_codes: Tensor
    ) -> Tensor:
        """Scalar; the mean over the samples of all processes.

        Args:
            volumes: scores of the V views of every volume, (V, B, K); float32 or float64.
            volume_codes: assignments of them, (V, B, K).
            slices: scores of the W views of slices of every volume, (W, B, K).
            slice_codes: assignments of them, (W, B, K).

        Raises:
            ValueError: the shapes do not fit.
        """
        pairs = ((volumes, volume_codes), (slices, slice_codes))
        if (
            any(s.ndim != 3 or s.shape != q.shape or not len(s) for s, q in pairs)
            or volumes.shape[1:] != slices.shape[1:]
        ):
            shapes = [tuple(t.shape) for pair in pairs for t in pair]
            raise ValueError(
                "agreement of volumes and slices needs scores and assignments of shape "
                f"(views, B, K), with the same B and K, not {shapes}"
            )
        with torch.autocast(volumes.device.type, enabled=False):
            own, others = ((s / self.temperature).log_softmax(2).mean(0) for s in (volumes, slices))
            code, other_code = (
                q.detach().to(s.dtype).mean(0) for s, q in pairs
            )  # of volumes, of slices
            both = -(other_code * own).sum(1) - (code * others).sum(1)
            return mean_value(both.mean() / 2)
