"""Places in two patients that are to be alike: where they are in their crops, and whether they are.

Every crop of a batch is paired with another one, and a place in the one with a place in the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from medssl.methods.base import Crops
from medssl.views.places import anywhere, displaced, first_good, free_range, inside, values_at

Alignment = Literal["position", "embedding", "random", "displaced"]

_POINTS, _ELSEWHERE = 1000, 1001  # streams of a sample's numbers


@dataclass(frozen=True)
class Pairs:
    """A pair for every crop of a batch, B of them with d axes.

    Attributes:
        partner: int64 (B,), the crop that each is paired with.
        first: the place in the crop, in its voxels, float32 (B, d).
        second: the place in the partner.
        weight: float32 (B,), 1 where they are of two subjects and match, else 0.
        score: float32 (B,), how alike the embedding says that the match is; 0 without one.
        apart: float32 (B,), how far the two places lie apart along the axis where it is most, as
            a share of the volumes' extent.
    """

    partner: Tensor
    first: Tensor
    second: Tensor
    weight: Tensor
    score: Tensor
    apart: Tensor


class Matcher(Protocol):
    """Finds places by what they look like, as :class:`medssl.networks.PlaceEmbedding` does."""

    def match(
        self, image: Tensor, partner: Tensor, points: Tensor, low: Tensor, high: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Where points of images are in their partners.

        Args:
            image: (B, C, *size).
            partner: int64 (B,).
            points: voxels (B, d, P).
            low, high: of the places that may be found, (d,).

        Returns:
            voxels (B, d, P), and how alike they are there, -1 to 1, (B, P).
        """
        ...


class Pairing:
    """Draws pairs.

    Args:
        alignment: how the second place is found: at the same relative position in its volume, by
            an embedding, anywhere at random, or away from where it was found.
        crop, view: voxels along each axis.
        candidates: places drawn in the crop, of which the first that has a match is taken.
        tolerance: how far matches by position may lie apart, as a share of the volume's extent.
        score: from which similarity on a match by an embedding is one.
        matcher: the embedding; None: matches are by position.

    Raises:
        ValueError: a view does not lie in the crop, or has no room to be displaced in it.
    """

    def __init__(
        self,
        alignment: Alignment,
        crop: Sequence[int],
        view: Sequence[int],
        *,
        candidates: int = 16,
        tolerance: float = 0.1,
        score: float = 0.7,
        matcher: Matcher | None = None,
    ) -> None:
        self._alignment, self._crop, self._view = alignment, tuple(crop), tuple(view)
        self._candidates, self._tolerance, self._score = candidates, tolerance, score
        self._matcher = matcher
        free_range(self._crop, self._view, torch.device("cpu"))
        sides = zip(self._crop, self._view, strict=True)
        self._axes = [axis for axis, (side, length) in enumerate(sides) if side >= 2 * length]
        if alignment == "displaced" and not self._axes:
            raise ValueError(
                f"views of {list(view)} voxels cannot be displaced by half their size everywhere in"
                f" crops of {list(crop)}: along one axis at least, take crops of twice the view"
            )

    @torch.no_grad()
    def __call__(self, crops: Crops) -> Pairs:
        """Pairs of a batch of at least two crops.

        Raises:
            ValueError: there is one crop alone.
        """
        partner = partners(len(crops), crops.image.device)
        other = crops.take(partner)
        low, high = free_range(self._crop, self._view, crops.image.device)
        drawn = crops.draw.fork(_POINTS).uniform(0.0, 1.0, len(self._view), self._candidates)
        points = anywhere(drawn, low, high)
        found, score, good = self._matches(crops, other, partner, points, low, high)
        bright = values_at(crops.image, points).mean(1) > crops.image.flatten(1).mean(1)[:, None]
        chosen = first_good(good, bright, score)
        first, second, score, good = (
            torch.take_along_dim(t, chosen.reshape(-1, *(1,) * (t.ndim - 1)), t.ndim - 1)[..., 0]
            for t in (points, found, score, good)
        )
        if self._alignment == "displaced":
            unit = crops.draw.fork(_ELSEWHERE).uniform(0.0, 1.0, len(self._view) + 1)
            least = low + 0.5  # half a view
            second = displaced(second, low, high, least, self._axes, unit)
        weight = (good & (crops.subject != other.subject)).float()
        apart = apart_by(crops, other, first[..., None], second[..., None])[:, 0]
        kept = score if self._matcher is not None else torch.zeros_like(score)
        return Pairs(partner, first, second, weight, kept, apart)

    def _matches(
        self, crops: Crops, other: Crops, partner: Tensor, points: Tensor, low: Tensor, high: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Where points of the crops are in the others (B, d, P), how well they match and whether
        that is enough, (B, P) each."""
        if self._alignment == "random":
            unit = crops.draw.fork(_ELSEWHERE).uniform(0.0, 1.0, *points.shape[1:])
            one = torch.ones_like(points[:, 0])
            return anywhere(unit, low, high), one, one.bool()
        if self._matcher is not None:
            found, score = self._matcher.match(crops.image, partner, points, low, high)
            return found, score, score > self._score
        found = inside(other.from_relative(crops.relative(points)), low, high)
        apart = apart_by(crops, other, points, found)
        return found, -apart, apart <= self._tolerance


def partners(count: int, device: torch.device) -> Tensor:
    """With whom each crop of a batch is paired: int64 (count,), a permutation without fixed points.

    Neighbours change places, and in an odd batch the last three go round: so processes that hold
    an even number each pair what one process would pair, and need no crops of each other.

    Raises:
        ValueError: there is one crop alone.
    """
    if count < 2:
        raise ValueError("crops of two patients are paired: each process needs at least two crops")
    rows = torch.arange(count, device=device)
    found = rows ^ 1
    if count % 2:
        found[-3:] = rows[-3:].roll(-1)
    return found


def apart_by(crops: Crops, other: Crops, points: Tensor, found: Tensor) -> Tensor:
    """How far places of two volumes lie apart, as a share of their extents, along the axis where it
    is most: voxels (B, d, P) of either crop -> float32 (B, P)."""
    return (crops.relative(points) - other.relative(found)).abs().amax(1)
