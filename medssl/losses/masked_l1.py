"""The reconstruction loss of methods that see the whole, partly spoilt image."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MaskedL1(nn.Module):
    """Mean absolute difference over masked voxels alone (Xie et al. 2022, "SimMIM", sec. 3.4, and
    Atito et al. 2022, "GMML").

    Every sample counts alike, however many of its voxels are masked: the mean over the samples of
    the mean over a sample's masked voxels. So the number does not depend on which process, or
    micro-step, a sample is in.
    """

    def forward(self, prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """Scalar float32 (float64 for float64 input); a sample with nothing masked gives 0.

        Args:
            prediction: (B, C, *spatial).
            target: (B, C, *spatial).
            mask: bool (B, 1, *spatial), True = masked.

        Raises:
            ValueError: the shapes disagree.
        """
        if prediction.shape != target.shape:
            raise ValueError(
                f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} "
                "must have the same shape (B, C, *spatial)"
            )
        if mask.shape != (len(target), 1, *target.shape[2:]):
            raise ValueError(
                f"the mask of images {tuple(target.shape)} must be (B, 1, *spatial), "
                f"not {tuple(mask.shape)}"
            )
        with torch.autocast(target.device.type, enabled=False):
            wide = torch.float64 if prediction.dtype == torch.float64 else torch.float32
            error = (prediction.to(wide) - target.to(wide)).abs().mean(1).flatten(1)
            weight = mask.flatten(1).to(wide)
            return ((error * weight).sum(1) / weight.sum(1).clamp(min=1)).mean()
