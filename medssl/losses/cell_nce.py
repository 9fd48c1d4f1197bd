"""The loss of dense contrast: every cell finds its key among keys of other samples and places."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medssl.processes import mean_value

_NEVER = -1e9  # a logit whose share is 0, and whose gradient is no NaN where all are


class CellInfoNCE(nn.Module):
    """InfoNCE of cells (Wang et al. 2021, "Dense contrastive learning for self-supervised visual
    pre-training", eq. 2), whose negatives are chosen for every sample and cell.

    With s = cosine similarity / temperature, k+ the key of a query q and N(q) its negatives:
    l(q) = -log(exp s(q, k+) / (exp s(q, k+) + sum over n in N(q) of exp s(q, n))), averaged over a
    sample's valid queries, then over the samples; a sample without any has loss 0. No gradient
    reaches keys and negatives. In several processes, which hold the same others, value and (under
    DDP) gradient equal those of one process holding the whole batch.

    Args:
        temperature: > 0.
    """

    def __init__(self, temperature: float = 0.2) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"the temperature must be above 0, not {temperature}")
        self.temperature = temperature

    def forward(
        self,
        queries: Tensor,
        keys: Tensor,
        valid: Tensor,
        others: Tensor,
        allowed: Tensor,
        own: Tensor | None = None,
        far: Tensor | None = None,
    ) -> Tensor:
        """Scalar float32 (float64 for float64 input).

        Args:
            queries: (B, P, D).
            keys: (B, P, D), of the same places.
            valid: bool (B, P), True = counts.
            others: of other samples, (N, D), N at least 1.
            allowed: bool (B, N), which of them are negatives of a sample.
            own: cells of the sample itself, (B, Q, D); None for none.
            far: bool (B, P, Q), which of them are negatives of a query.

        Raises:
            ValueError: the shapes do not fit.
        """
        _check(queries, keys, valid, others, allowed, own, far)
        with torch.autocast(queries.device.type, enabled=False):
            wide = torch.float64 if queries.dtype == torch.float64 else torch.float32
            query = F.normalize(queries.to(wide), dim=2)
            key, rest = (_unit(rows, wide) for rows in (keys, others))
            positive = (query * key).sum(2) / self.temperature
            negative = self._log_sum(query, rest.expand(len(query), -1, -1), allowed[:, None])
            if own is not None and far is not None:
                places = self._log_sum(query, _unit(own, wide), far)
                negative = torch.logaddexp(negative, places)
            # -log(e^p / (e^p + e^n)), exact for either being much the larger.
            losses = F.softplus(negative - positive, threshold=50.0)
            return mean_value(_over_samples(losses, valid))

    def _log_sum(self, query: Tensor, keys: Tensor, among: Tensor) -> Tensor:
        """log of the sum of exp s over the keys that count: (B, P).

        Its gradient, the mean of the keys by their shares in the sum, is made along with it, so
        that the similarities of all with all need not be kept, nor made again.

        Args:
            query: (B, P, D), of length 1.
            keys: (B, N, D), of length 1.
            among: bool (B, P or 1, N), which count.
        """
        with torch.no_grad():
            bias = torch.zeros_like(among, dtype=query.dtype).masked_fill(~among, _NEVER)
            shares = torch.baddbmm(bias, query, keys.transpose(1, 2), alpha=1 / self.temperature)
            most = shares.amax(2, keepdim=True)
            total = shares.sub_(most).exp_().sum(2, keepdim=True)
            mean = (shares @ keys) / total
            value = (total.log() + most)[..., 0]
        towards = (query * mean).sum(2) / self.temperature
        return value + (towards - towards.detach())

    @torch.no_grad()
    def trivial(self, valid: Tensor, allowed: Tensor, far: Tensor | None = None) -> Tensor:
        """The loss where everything is the same: scalar float32, of what `forward` takes."""
        count = allowed.sum(1)[:, None].float()
        if far is not None:
            count = count + far.sum(2)
        return mean_value(_over_samples(count.log1p().expand_as(valid), valid))


def _unit(rows: Tensor, dtype: torch.dtype) -> Tensor:
    return F.normalize(rows.detach().to(dtype), dim=-1)


def _over_samples(values: Tensor, valid: Tensor) -> Tensor:
    """The mean over the samples of the mean over a sample's valid values (B, P)."""
    weight = valid.to(values.dtype)
    return ((values * weight).sum(1) / weight.sum(1).clamp(min=1)).mean()


def _check(
    queries: Tensor,
    keys: Tensor,
    valid: Tensor,
    others: Tensor,
    allowed: Tensor,
    own: Tensor | None,
    far: Tensor | None,
) -> None:
    fits = queries.ndim == 3 and keys.shape == queries.shape and valid.shape == queries.shape[:2]
    fits = fits and others.ndim == 2 and others.shape[1] == queries.shape[2]
    fits = fits and len(others) > 0
    fits = fits and allowed.shape == (len(queries), len(others))
    if own is not None and far is not None:
        fits = fits and own.ndim == 3 and own.shape[::2] == queries.shape[::2]
        fits = fits and far.shape == (*queries.shape[:2], own.shape[1])
    if not fits or (own is None) != (far is None):
        given = (queries, keys, valid, others, allowed, own, far)
        shapes = [None if each is None else tuple(each.shape) for each in given]
        raise ValueError(
            "dense contrast takes queries and keys (B, P, D), valid (B, P), others (N, D), allowed "
            f"(B, N), and own (B, Q, D) with far (B, P, Q) or neither; not {shapes}"
        )
