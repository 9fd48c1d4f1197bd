"""MoCo v3: find the teacher's view of the same image among all (Chen et al. 2021)."""

from __future__ import annotations

import math

from pydantic import Field
from torch import nn

from medssl.losses import InfoNCE
from medssl.methods.base import Crops, Samples, Step
from medssl.methods.joint import (
    JointConfig,
    PredictorConfig,
    StudentTeacher,
    TeacherConfig,
    together,
)
from medssl.networks import Encoder, Projector
from medssl.processes import world


class MoCoConfig(JointConfig, PredictorConfig, TeacherConfig):
    """``temperature`` of the loss; sizes of projector and predictor; the teacher; views."""

    temperature: float = Field(0.2, gt=0)


class MoCo(StudentTeacher):
    """MoCo v3 with any encoder.

    Modules: those of :class:`StudentTeacher`, and ``predictor``.
    """

    Config = MoCoConfig

    def __init__(self, config: MoCoConfig, encoder: Encoder, samples: Samples) -> None:
        super().__init__(config, encoder, samples)
        self.predictor = Projector(config.projection, config.predictor_hidden, config.projection)
        self._loss: nn.Module = InfoNCE(config.temperature)
        # Algorithm 1 of the paper: a lower temperature alone does not make larger gradients.
        self._scale = 2.0 * config.temperature

    def step(self, crops: Crops) -> Step:
        """InfoNCE of each view's prediction among the teacher's projections of the other views."""
        views = self.views(crops)
        k1, k2 = self.taught(views)
        embedding, projections = self.embed(views)
        q1, q2 = together(self.predictor, projections)
        return Step(
            self._scale * (self._loss(q1, k2) + self._loss(q2, k1)),
            embedding=embedding,
            positives=(q1, k2),
            trivial_loss=2 * self._scale * math.log(len(crops) * world()[1]),
        )
