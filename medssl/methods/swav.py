"""SwAV: a view predicts which prototypes another view is assigned to (Caron et al. 2020)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from medssl.losses import SwAV as SwAVLoss
from medssl.methods.base import Crops, MethodConfig, Samples, Step
from medssl.methods.joint import JointConfig, JointEmbedding, LocalViewsConfig
from medssl.networks import Encoder, Prototypes, Queue
from medssl.processes import world


class PrototypesConfig(JointConfig):
    """Prototypes, how views are assigned to them, the projector's sizes, how views are drawn."""

    prototypes: int = Field(128, ge=2, description="at most about half the volumes")
    temperature: float = Field(0.1, gt=0, description="of the predictions")
    epsilon: float = Field(0.05, gt=0, description="of the assignments; the smaller, the harder")
    iterations: int = Field(3, ge=1, description="of Sinkhorn-Knopp")
    freeze: float = Field(
        0.0025, ge=0, le=1, description="share of the run in which the prototypes stand still"
    )
    queue: int = Field(512, ge=0, description="earlier crops that are assigned along; 0: none")
    queue_from: float = Field(
        0.075, ge=0, le=1, description="share of the run before they are, once there are so many"
    )


class SwAVConfig(PrototypesConfig, LocalViewsConfig):
    """Prototypes, how views are assigned to them, the projector's sizes, how views are drawn."""


class SwAV(JointEmbedding):
    """SwAV with any encoder.

    Modules: ``encoder``, ``projector``, ``prototypes`` and ``queue``.
    """

    Config: ClassVar[type[MethodConfig]] = SwAVConfig

    def __init__(self, config: PrototypesConfig, encoder: Encoder, samples: Samples) -> None:
        super().__init__(config, encoder, samples)
        self.prototypes = Prototypes(config.projection, config.prototypes)
        # A row holds the projections of both large views of a crop.
        self.queue = Queue(config.queue, 2 * config.projection) if config.queue else None
        self._freeze, self._queue_from = config.freeze, config.queue_from
        self._loss = SwAVLoss(config.temperature, config.epsilon, config.iterations)

    def step(self, crops: Crops) -> Step:
        """Swapped prediction from all views of the assignments of the two large ones."""
        embedding, projections = self.embed(self.views(crops))
        self.prototypes.frozen = self.progress < self._freeze
        scores, codes = self._assigned(projections, self.queue, self.number)
        return Step(
            self._loss(scores, codes),
            embedding=embedding,
            positives=(projections[0], projections[1]),
            teacher_probs=codes[0],
            trivial_loss=math.log(len(self.prototypes.weight)),
        )

    def after_update(self, progress: float) -> None:
        """The prototypes are on the sphere again."""
        self.prototypes.normalise()

    def _assigned(
        self, projections: Sequence[Tensor], queue: Queue | None, pushed: int
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The scores (B, K) of all views, and the assignments of the first two, which the queue
        then remembers.

        Args:
            projections: (B, D) each.
            queue: of earlier ones.
            pushed: how often as many were put there.
        """
        scores = list(self.prototypes(torch.cat(list(projections))).chunk(len(projections)))
        queued = self._queued(queue, pushed * len(projections[0]))
        codes = [self._loss.assign(s, q) for s, q in zip(scores[:2], queued, strict=True)]
        if queue is not None:
            queue.push(torch.cat(list(projections[:2]), dim=1))
        return scores, codes

    @torch.no_grad()
    def _queued(self, queue: Queue | None, filled: int) -> list[Tensor | None]:
        """The scores of the queue's rows (M, K) for either view, where it is in use by now; each
        process put ``filled`` rows into it."""
        if queue is None or self.progress < self._queue_from:
            return [None, None]
        if filled * world()[1] < len(queue.rows):
            return [None, None]
        return [self.prototypes(half) for half in queue.rows.chunk(2, dim=1)]
