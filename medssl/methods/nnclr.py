"""NNCLR: an image's nearest neighbour stands in for it as a positive (Dwibedi et al. 2021)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from pydantic import Field

from medssl.losses import InfoNCE
from medssl.methods.base import Crops, Samples, Step
from medssl.methods.joint import JointConfig, JointEmbedding, PredictorConfig
from medssl.networks import Encoder, Projector, Queue
from medssl.processes import world


class NNCLRConfig(JointConfig, PredictorConfig):
    """``queue``, the embeddings among which neighbours are sought; ``temperature`` of the loss;
    sizes of projector and predictor; views.
    """

    temperature: float = Field(0.1, gt=0)
    queue: int = Field(4096, ge=1, description="embeddings kept, of earlier batches")
    projector_layers: int = Field(3, ge=1)


class NNCLR(JointEmbedding):
    """NNCLR with any encoder. Modules also: ``predictor`` and ``queue``."""

    Config = NNCLRConfig

    def __init__(self, config: NNCLRConfig, encoder: Encoder, samples: Samples) -> None:
        super().__init__(config, encoder, samples)
        self.predictor = Projector(config.projection, config.predictor_hidden, config.projection)
        self.queue = Queue(config.queue, config.projection)
        self._loss = InfoNCE(config.temperature)

    def step(self, crops: Crops) -> Step:
        """Each view's neighbour against the other view's prediction; then the first views are kept
        for later batches.
        """
        embedding, projections = self.embed(self.views(crops))
        first, second = self.predictor(torch.cat(projections)).chunk(2)
        unit = [F.normalize(z.detach().float()) for z in projections]
        near_first, near_second = (self.queue.nearest(z) for z in unit)
        loss = (self._loss(near_first, second) + self._loss(near_second, first)) / 2
        self.queue.push(unit[0])
        return Step(
            loss,
            embedding=embedding,
            positives=(second, near_first),
            trivial_loss=math.log(len(crops) * world()[1]),
        )
