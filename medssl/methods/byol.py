"""BYOL: predict what a slowly moving teacher sees in the other view (Grill et al. 2020)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn

from medssl.losses import NegativeCosine
from medssl.methods.base import Crops, MethodConfig, Samples, Step
from medssl.methods.joint import (
    JointConfig,
    PredictorConfig,
    StudentTeacher,
    TeacherConfig,
    together,
)
from medssl.networks import Encoder, Projector


class BYOLConfig(JointConfig, PredictorConfig, TeacherConfig):
    """Sizes of projector and predictor; momentum of the teacher; how a view is drawn."""


class BYOL(StudentTeacher):
    """BYOL with any encoder.

    Modules: those of :class:`StudentTeacher`, and ``predictor``.
    """

    Config: ClassVar[type[MethodConfig]] = BYOLConfig

    def __init__(self, config: Any, encoder: Encoder, samples: Samples) -> None:
        super().__init__(config, encoder, samples)
        self.predictor = self.make_predictor(config)
        self._loss: nn.Module = NegativeCosine()

    def make_predictor(self, config: Any) -> nn.Module:
        """The predictor, (B, projection) -> (B, projection)."""
        return Projector(config.projection, config.predictor_hidden, config.projection)

    def step(self, crops: Crops) -> Step:
        """Each view's prediction against the teacher's projection of the other one."""
        views = self.views(crops)
        z1, z2 = self.taught(views)
        embedding, projections = self.embed(views)
        p1, p2 = together(self.predictor, projections)
        loss = self._loss(torch.cat((p1, p2)), torch.cat((z2, z1)))
        return Step(loss, embedding=embedding, positives=(p1, z2))
