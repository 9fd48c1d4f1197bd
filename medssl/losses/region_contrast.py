"""The local loss of Chaitanya et al.: a region of the decoder's map against those beside it."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medssl.losses.pairs import wide_pair
from medssl.losses.partition_contrast import NOWHERE, check_numbers, mean_over_pairs, paired
from medssl.processes import gather_rows, mean_value

_LEAST = 1e-12  # shorter vectors count as this long, as in F.normalize


class RegionContrast(nn.Module):
    """L^R and L^D (Chaitanya et al. 2020, sec. 3.2, eq. 3 and 4).

    An image's map is cut into a lattice of regions, of which some are anchors, at the same places
    in every image. For an anchor a of one of two views that show the same places, with b the region
    there in the other view and s = cosine similarity / temperature:
    l(a, b) = -log(exp s(a, b) / (exp s(a, b) + sum over n of exp s(a, n))), n being the regions
    that touch a's place (with a face, an edge or a corner), in both views. L^R is its mean over
    anchors, views and samples. L^D, which is asked for by giving partitions and volumes, also has
    the pairs of the same place and view in two crops of one partition of different volumes, and is
    the mean over all ordered pairs.
    In several processes value and (under DDP) gradient equal those of one process holding the
    whole batch.

    Args:
        lattice: regions along each axis; two at least along one of them.
        anchors: how many, drawn once and the same in every run; at most all regions.
        temperature: > 0.

    Attributes:
        places: int64 (P,), ascending: the regions that the loss asks for, by their number in
            row-major order of the lattice.
        anchors: int64 (A,), those of them that are anchors.
    """

    places: Tensor
    anchors: Tensor
    own: Tensor
    far: Tensor

    def __init__(self, lattice: Sequence[int], anchors: int = 13, temperature: float = 0.1) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"the temperature must be above 0, not {temperature}")
        if min(lattice) < 1 or math.prod(lattice) < 2 or anchors < 1:
            raise ValueError(
                f"a lattice of {list(lattice)} with {anchors} anchors has no region beside another"
            )
        self.temperature = temperature
        places = list(product(*map(range, lattice)))
        chosen = sorted(random.Random(0).sample(range(len(places)), min(anchors, len(places))))
        beside = [[_touch(places[n], other) for other in places] for n in chosen]
        asked = [n for n in range(len(places)) if n in chosen or any(row[n] for row in beside)]
        self.register_buffer("places", torch.tensor(asked))
        self.register_buffer("anchors", torch.tensor(chosen))
        self.register_buffer("own", torch.tensor([asked.index(n) for n in chosen]))
        self.register_buffer("far", ~torch.tensor([[row[n] for n in asked] for row in beside]))

    def forward(
        self,
        first: Tensor,
        second: Tensor,
        partition: Tensor | None = None,
        volume: Tensor | None = None,
    ) -> Tensor:
        """Scalar float32 (float64 for float64 input).

        Args:
            first, second: the regions of two views at ``places``, each (B, P, D).
            partition, volume: int64 (B,) each; given, L^D, else L^R.

        Raises:
            ValueError: the shapes do not fit.
        """
        count = len(self.places)
        if first.ndim != 3 or first.shape != second.shape or first.shape[1] != count:
            raise ValueError(
                f"regions of two views are (B, {count}, D), not {tuple(first.shape)} and "
                f"{tuple(second.shape)}"
            )
        if partition is not None and volume is not None:
            check_numbers(len(first), partition, volume)
        with wide_pair(first.flatten(1), second.flatten(1), "contrast of regions") as pair:
            wide = [v.view(first.shape) for v in pair]
            anchors = [F.normalize(v[:, self.own], dim=2) for v in wide]
            both = torch.cat(anchors, dim=1)
            # products are fewer than vectors, so it is they that are divided by lengths
            cosines = [both @ v.mT / v.norm(dim=2).clamp(min=_LEAST)[:, None] for v in wide]
            against = self._scaled(torch.cat(cosines, dim=2))
            far = self.far.repeat(2, 2)
            opposites = against.masked_fill(far, NOWHERE).logsumexp(2).chunk(2, dim=1)
            alike = self._scaled((anchors[0] * anchors[1]).sum(2))
            if partition is None or volume is None:
                each = [F.softplus(against - alike) for against in opposites]
                return mean_value(torch.stack(each).mean())
            return self._across(anchors, opposites, alike, partition, volume)

    def _across(
        self,
        places: Sequence[Tensor],
        opposites: Sequence[Tensor],
        alike: Tensor,
        partition: Tensor,
        volume: Tensor,
    ) -> Tensor:
        """L^D of anchors (B, A, D), their opposites and their other views (B, A)."""
        matched = paired(partition, volume, gather_rows(partition), gather_rows(volume))
        losses, pairs = [], []
        for place, against in zip(places, opposites, strict=True):
            others = torch.einsum("bad,nad->bna", place, gather_rows(place))
            own = F.softplus(against - alike)[:, None]
            losses.append(torch.cat((own, F.softplus(against[:, None] - self._scaled(others))), 1))
            pairs.append(F.pad(matched, (1, 0), value=True))
        return mean_over_pairs(torch.cat(losses), torch.cat(pairs))

    def _scaled(self, cosines: Tensor) -> Tensor:
        return cosines / self.temperature


def _touch(one: Sequence[int], other: Sequence[int]) -> bool:
    return max(abs(a - b) for a, b in zip(one, other, strict=True)) == 1
