"""The loss of PixPro: cells of two views that show the same place agree."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medssl.processes import mean_value


class PixelConsistency(nn.Module):
    """-cos(y_i, x_j), averaged over a sample's pairs (i, j), then over the samples (Xie et al.
    2021, "Propagate yourself", eq. 5, one direction). No gradient flows into x.

    A sample without a pair has loss 0. In several processes value and (under DDP) gradient equal
    those of one process holding the whole batch.
    """

    def forward(self, prediction: Tensor, target: Tensor, pairs: Tensor) -> Tensor:
        """Scalar float32 (float64 for float64 input), -1 to 1.

        Args:
            prediction: y, of P cells of one view, (B, P, D).
            target: x, of Q cells of the other view, (B, Q, D).
            pairs: bool (B, P, Q), True = compared.

        Raises:
            ValueError: the shapes do not fit.
        """
        (batch, cells, width), others = _shape(prediction), _shape(target)
        if others[::2] != (batch, width) or pairs.shape != (batch, cells, others[1]):
            raise ValueError(
                "PixPro compares cells (B, P, D) with cells (B, Q, D) by pairs (B, P, Q), not "
                f"{tuple(prediction.shape)} with {tuple(target.shape)} by {tuple(pairs.shape)}"
            )
        with torch.autocast(prediction.device.type, enabled=False):
            wide = torch.float64 if prediction.dtype == torch.float64 else torch.float32
            with torch.no_grad():
                # A row's cosines add up to its product with the sum of its partners.
                weight = pairs.to(wide)
                wanted = weight @ F.normalize(target.to(wide), dim=2)
                wanted /= weight.sum((1, 2)).clamp(min=1)[:, None, None]
            cosines = (F.normalize(prediction.to(wide), dim=2) * wanted).sum((1, 2))
            return mean_value(-cosines.mean())


def _shape(cells: Tensor) -> tuple[int, int, int]:
    """(B, P, D); zeros where it is not of that form, which fits nothing."""
    return tuple(cells.shape) if cells.ndim == 3 else (0, 0, 0)  # type: ignore[return-value]
