"""SimSiam: predict the other view's projection, as if it stood still (Chen and He 2021)."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import nn

from medssl.losses import NegativeCosine
from medssl.methods.base import Crops, Samples, Step
from medssl.methods.joint import JointConfig, JointEmbedding, PredictorConfig, together
from medssl.networks import Encoder, Projector


class SimSiamConfig(JointConfig, PredictorConfig):
    """Sizes of projector and predictor; how a view is drawn."""

    projector_layers: int = Field(3, ge=1)
    predictor_hidden: int = Field(32, ge=1, description="width of the predictor's bottleneck")


class SimSiam(JointEmbedding):
    """SimSiam with any encoder.

    Modules: ``encoder``, ``projector`` and ``predictor``.
    """

    Config = SimSiamConfig

    def __init__(self, config: SimSiamConfig, encoder: Encoder, samples: Samples) -> None:
        super().__init__(config, encoder, samples)
        self.predictor: nn.Module = Projector(
            config.projection, config.predictor_hidden, config.projection
        )
        self._loss: nn.Module = NegativeCosine()

    def step(self, crops: Crops) -> Step:
        """Each view's prediction against the projection of the other one, which gets no gradient
        (the loss sees to that).
        """
        embedding, (z1, z2) = self.embed(self.views(crops))
        p1, p2 = together(self.predictor, (z1, z2))
        loss = self._loss(torch.cat((p1, p2)), torch.cat((z2, z1)))
        return Step(loss, embedding=embedding, positives=(p1, z2))
