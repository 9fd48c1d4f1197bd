"""Mixed Barlow Twins: mixed images get mixed projections (Bandara et al. 2023)."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from medssl import losses
from medssl.methods.barlow import Barlow, BarlowConfig
from medssl.methods.base import Crops, Step
from medssl.processes import gather_rows, world
from medssl.views import Draw

_SHARE, _PARTNER = 1000, 1001  # streams of random numbers
_BLOCK = 4


class MixedBarlowConfig(BarlowConfig):
    """As of Barlow Twins; ``mixing`` weighs the term of mixed images."""

    mixing: float = Field(
        4.0, ge=0, description="lambda_reg: weight of the mixed term, in units of `redundancy`"
    )


class MixedBarlow(Barlow):
    """Barlow Twins regularised by mixed images."""

    Config = MixedBarlowConfig

    def make_loss(self, config: Any) -> nn.Module:
        """Barlow Twins and the mixed term."""
        return losses.MixedBarlow(config.redundancy, config.mixing)

    def step(self, crops: Crops) -> Step:
        """The loss of two views and their mixture; all go through the encoder as one batch."""
        views = self.views(crops)
        mixed, share, partner = self._mixed(views, crops)
        embedding, (z1, z2, mixture) = self.embed([*views, mixed])
        return Step(
            self._loss(z1, z2, mixture, share, partner),
            embedding=embedding,
            positives=(z1, z2),
            trivial_loss=self.trivial_loss(len(crops) * world()[1]),
        )

    def preview(self, crops: Crops) -> dict[str, Tensor]:
        """The crop, its views, and the mixed image."""
        return {**super().preview(crops), "mixed": self._mixed(self.views(crops), crops)[0]}

    def _mixed(self, views: list[Tensor], crops: Crops) -> tuple[Tensor, Tensor, Tensor]:
        """The mixed images (B, C, *size), the share of their first view, and who is the second."""
        # One share for all processes: the joined batch's first sample draws it, from Beta(1, 1).
        share = gather_rows(crops.draw.fork(_SHARE).uniform(0.0, 1.0)[:1])[0]
        partner = partners(crops.draw)
        return torch.lerp(views[1][partner], views[0], share), share, partner


def partners(draw: Draw) -> Tensor:
    """With whom each sample is mixed: int64 (B,), a permutation without fixed points.

    Samples change places within blocks of four by 1, 2 or 3, so that processes that hold whole
    blocks need no images of each other, and mix what one process would mix.
    """
    numbers = draw.fork(_PARTNER).integers(0, 6)
    rows = torch.arange(len(numbers), device=numbers.device)
    first = rows // _BLOCK * _BLOCK
    size = (len(rows) - first).clamp(max=_BLOCK)
    by = 1 + numbers[first] % (size - 1).clamp(min=1)
    return first + (rows - first + by) % size
