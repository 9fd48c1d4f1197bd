"""Losses of images that were annotated for some of the structures only."""

from __future__ import annotations

import torch
from torch import Tensor


def marginal_logits(logits: Tensor, known: Tensor) -> Tensor:
    """Give the probability of classes that nobody looked for to the background.

    The background of an image is then what the annotator left unmarked: true background, or a
    structure that was not asked for. Any loss of the softmax of these logits is the marginal loss
    of Shi et al. 2021 ("Marginal loss and exclusion loss for partially supervised multi-organ
    segmentation", Medical Image Analysis 70: the marginal probability), and penalises no voxel of
    the background for a structure that is not known there:

        q_0 = p_0 + sum of p_c over unknown c;  q_c = p_c for known c, 0 for unknown c > 0

    Args:
        logits: (B, classes, *spatial), class 0 the background.
        known: bool (B, classes): which classes each image was annotated for; that of the
            background counts as known.

    Returns:
        (B, classes, *spatial) whose softmax is q, float32 (float64 from float64); minus infinity
        for unknown classes, so a label that has one costs infinitely much.

    Raises:
        ValueError: the shapes disagree.
    """
    if known.shape != logits.shape[:2]:
        raise ValueError(f"known is (B, classes), not {tuple(known.shape)}")
    wide = logits if logits.dtype == torch.float64 else logits.float()
    asked = known.reshape(*known.shape, *[1] * (logits.ndim - 2))
    is_background = torch.arange(known.shape[1], device=known.device) == 0
    is_background = is_background.reshape(1, -1, *[1] * (logits.ndim - 2))
    apart = wide.masked_fill(~asked, -torch.inf)
    together = wide.masked_fill(asked & ~is_background, -torch.inf)
    return torch.where(is_background, together.logsumexp(1, keepdim=True), apart)
