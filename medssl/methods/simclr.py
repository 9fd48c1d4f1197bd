"""SimCLR: two views of one image are alike, views of others are not (Chen et al. 2020)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from medssl.losses import NTXent
from medssl.methods.base import Method, MethodConfig, Step, ViewConfig
from medssl.networks import Encoder, Projector, pooled
from medssl.processes import world
from medssl.views import Draw, ViewPlan, make_views


class SimCLRConfig(MethodConfig):
    """``temperature`` of the loss; sizes of the projector; how a view is drawn."""

    temperature: float = Field(0.2, gt=0)
    hidden: int = Field(256, ge=1)
    projection: int = Field(128, ge=1)
    view: ViewConfig = ViewConfig(
        rotation=15.0,
        crop_scale=(0.4, 1.0),
        gamma=(0.7, 1.4),
        contrast=(0.7, 1.3),
        brightness=0.2,
        noise=0.1,
        blur=(0.1, 1.0),
    )


class SimCLR(Method):
    """SimCLR with any encoder."""

    Config = SimCLRConfig

    def __init__(self, config: SimCLRConfig, encoder: Encoder, patch_size: Sequence[int]) -> None:
        super().__init__(config, encoder, patch_size)
        self.encoder = encoder
        self.projector = Projector(encoder.channels[-1], config.hidden, config.projection)
        self._plan = ViewPlan(config.view.settings(), tuple(patch_size), count=2)
        self._loss = NTXent(config.temperature)

    def step(self, crops: Tensor, draw: Draw, spacing: Tensor) -> Step:
        """NT-Xent of two views; both go through the encoder as one batch."""
        first, second = self.views(crops, draw, spacing)
        features = pooled(self.encoder(torch.cat((first, second))))
        z1, z2 = self.projector(features).chunk(2)
        candidates = 2 * len(crops) * world()[1] - 1
        return Step(
            self._loss(z1, z2),
            embedding=features[: len(crops)],
            positives=(z1, z2),
            trivial_loss=math.log(candidates),
        )

    def preview(self, crops: Tensor, draw: Draw, spacing: Tensor) -> dict[str, Tensor]:
        """The crop and its two views."""
        first, second = self.views(crops, draw, spacing)
        return {"crop": crops, "view 1": first, "view 2": second}

    def views(self, crops: Tensor, draw: Draw, spacing: Tensor) -> list[Tensor]:
        """Two views of every crop."""
        return [view.image for view in make_views(crops, draw, [self._plan], spacing)]
