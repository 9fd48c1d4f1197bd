"""The loss of segmentation: soft Dice plus cross entropy."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DiceCE(nn.Module):
    """Soft Dice (Milletari et al. 2016, "V-Net", with p + g below the line instead of p^2 + g^2, as
    in Isensee et al. 2021, "nnU-Net") plus voxelwise cross entropy, each with weight one.

    Dice of class c in a sample: (2 sum p g + s) / (sum p + sum g + s), with p the softmax and g the
    one-hot label; the loss is one minus its mean over samples and classes. Computed in float32.

    Args:
        include_background: count class 0 among the classes of the Dice term.
        smooth: s > 0; makes an absent class that is nowhere predicted a Dice of one.
        skip_absent: average the Dice term over the classes that occur in a sample's label. Crops of
            many small organs hold few of them, and the term would else teach to predict none.
    """

    def __init__(
        self, include_background: bool = False, smooth: float = 1e-5, skip_absent: bool = False
    ) -> None:
        super().__init__()
        self.skip_absent = skip_absent
        self.include_background = include_background
        self.smooth = smooth

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Scalar.

        Args:
            logits: (B, classes, *spatial).
            label: integers (B, 1, *spatial) in [0, classes).

        Raises:
            ValueError: the shapes disagree, or there are fewer than two classes.
        """
        if label.ndim != logits.ndim or label.shape != (len(logits), 1, *logits.shape[2:]):
            raise ValueError(
                f"logits {tuple(logits.shape)} need labels of shape (B, 1, *spatial), "
                f"not {tuple(label.shape)}"
            )
        if logits.shape[1] < 2:
            raise ValueError("segmentation needs at least two classes, background among them")
        with torch.autocast(logits.device.type, enabled=False):
            wide = logits if logits.dtype == torch.float64 else logits.float()
            index = label.long()
            log_p = wide.log_softmax(dim=1)
            entropy = F.nll_loss(log_p.flatten(2), index.flatten(2)[:, 0])
            truth = torch.zeros_like(log_p).scatter_(1, index, 1.0)
            first = 0 if self.include_background else 1
            p, g = log_p.exp().flatten(2)[:, first:], truth.flatten(2)[:, first:]
            overlap, total = (p * g).sum(2), p.sum(2) + g.sum(2)
            dice = (2.0 * overlap + self.smooth) / (total + self.smooth)
            if self.skip_absent:
                present = (g.sum(2) > 0).to(dice.dtype)
                missing = ((1.0 - dice) * present).sum() / present.sum().clamp(min=1)
                return missing + entropy
            return 1.0 - dice.mean() + entropy
