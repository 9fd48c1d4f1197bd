"""SimCLR: two views of one image are alike, views of others are not (Chen et al. 2020)."""

from __future__ import annotations

import math

from pydantic import Field

from medssl.losses import NTXent
from medssl.methods.base import Crops, Samples, Step
from medssl.methods.joint import JointConfig, JointEmbedding
from medssl.networks import Encoder
from medssl.processes import world


class SimCLRConfig(JointConfig):
    """``temperature`` of the loss; sizes of the projector; how a view is drawn."""

    temperature: float = Field(0.2, gt=0)


class SimCLR(JointEmbedding):
    """SimCLR with any encoder."""

    Config = SimCLRConfig

    def __init__(self, config: SimCLRConfig, encoder: Encoder, samples: Samples) -> None:
        super().__init__(config, encoder, samples)
        self._loss = NTXent(config.temperature)

    def step(self, crops: Crops) -> Step:
        """NT-Xent of two views; both go through the encoder as one batch."""
        embedding, (z1, z2) = self.embed(self.views(crops))
        candidates = 2 * len(crops) * world()[1] - 1
        return Step(
            self._loss(z1, z2),
            embedding=embedding,
            positives=(z1, z2),
            trivial_loss=math.log(candidates),
        )
