"""The loss of anatomical embeddings: points found again among places that are not theirs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medssl.processes import gather_rows, mean_value, sum_processes, world


class PlaceContrast(nn.Module):
    """InfoNCE of points with hard negatives (Yan et al. 2022, "SAM: self-supervised learning of
    pixel-wise anatomical embeddings in radiological images", eq. 1).

    With s = cosine similarity / temperature of a point's query q, its key k, and negatives n:
    l = -log(exp s(q, k) / (exp s(q, k) + sum over n of exp s(q, n))), averaged over the points that
    count. Negatives are the ``hard`` most similar ones of the candidates of the point's own sample
    that are allowed, and all the vectors that samples of other subjects offer. In several processes
    each one's points meet the offers of all; value and (under DDP) gradient equal those of one
    process holding the whole batch.

    Args:
        temperature: > 0.
        hard: how many candidates are negatives, at least 1.
    """

    def __init__(self, temperature: float = 0.5, hard: int = 500) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"the temperature must be above 0, not {temperature}")
        if hard < 1:
            raise ValueError(f"at least one hard negative is needed, not {hard}")
        self.temperature, self.hard = temperature, hard

    def forward(
        self,
        queries: Tensor,
        keys: Tensor,
        counts: Tensor,
        candidates: Tensor,
        allowed: Tensor,
        offers: Tensor,
        subject: Tensor,
    ) -> Tensor:
        """Scalar float32 (float64 for float64 input); 0 where no point counts.

        Args:
            queries, keys: (B, P, D), point by point; all vectors of length 1.
            counts: bool (B, P), whether the two show one place.
            candidates: (B, C, D).
            allowed: bool (B, P, C), whether a candidate is no place of that point.
            offers: (B, R, D), R may be 0.
            subject: int64 (B,), whose sample it is.

        Raises:
            ValueError: the shapes disagree.
        """
        self._check(queries, keys, counts, candidates, allowed, offers, subject)
        with torch.autocast(queries.device.type, enabled=False):
            double = torch.float64 in (queries.dtype, keys.dtype)
            wide = torch.float64 if double else torch.float32
            q, k, c, o = (rows.to(wide) for rows in (queries, keys, candidates, offers))
            own = (q * k).sum(2, keepdim=True)
            near = (q @ c.transpose(1, 2)).masked_fill(~allowed, float("-inf"))
            parts = [own, near.topk(min(self.hard, c.shape[1]), dim=2, sorted=False).values]
            if o.shape[1]:
                parts.append(self._others(q, o, subject))
            logits = torch.cat(parts, dim=2) / self.temperature
            losses = logits.logsumexp(2) - logits[:, :, 0]
            weight = counts.to(wide)
            total = sum_processes(weight.sum()).clamp(min=1) / world()[1]
            return mean_value((losses * weight).sum() / total)

    @staticmethod
    def _others(queries: Tensor, offers: Tensor, subject: Tensor) -> Tensor:
        """Cosines with what samples of other subjects offer, (B, P, offers of all), else -inf."""
        rows, count = gather_rows(offers.flatten(0, 1)), offers.shape[1]
        whose = gather_rows(subject[:, None])[:, 0].repeat_interleave(count)
        same = subject[:, None, None] == whose
        return (queries @ rows.T).masked_fill(same, float("-inf"))

    @staticmethod
    def _check(
        queries: Tensor,
        keys: Tensor,
        counts: Tensor,
        candidates: Tensor,
        allowed: Tensor,
        offers: Tensor,
        subject: Tensor,
    ) -> None:
        if queries.ndim != 3 or queries.shape != keys.shape or counts.shape != queries.shape[:2]:
            raise ValueError(
                f"points have queries and keys of one shape (B, P, D) and counts (B, P), not "
                f"{tuple(queries.shape)}, {tuple(keys.shape)} and {tuple(counts.shape)}"
            )
        batch, points, dim = queries.shape
        for name, rows in (("candidates", candidates), ("offers", offers)):
            if rows.ndim != 3 or rows.shape[::2] != (batch, dim):
                raise ValueError(f"{name} must be ({batch}, any, {dim}), not {tuple(rows.shape)}")
        if allowed.shape != (batch, points, candidates.shape[1]) or subject.shape != (batch,):
            raise ValueError(
                f"allowed must be {(batch, points, candidates.shape[1])} and subject ({batch},), "
                f"not {tuple(allowed.shape)} and {tuple(subject.shape)}"
            )
