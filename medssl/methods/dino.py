"""DINO: a student of many views agrees with a teacher of few on prototypes (Caron et al. 2021)."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import nn

from medssl import losses
from medssl.methods.base import Crops, Samples, Step
from medssl.methods.centred import CentredConfig
from medssl.methods.joint import JointConfig, LocalViewsConfig, StudentTeacher, TeacherConfig
from medssl.networks import Encoder, Prototypes


class DINOConfig(JointConfig, LocalViewsConfig, TeacherConfig, CentredConfig):
    """Sizes of the head, ``projection`` being its bottleneck; temperatures; the centre; views."""

    projection: int = Field(64, ge=1, description="width of the bottleneck, which is normalised")
    projector_layers: int = Field(3, ge=1)


class DINO(StudentTeacher):
    """DINO with any encoder.

    Modules: those of :class:`StudentTeacher`; the projector ends in prototypes.
    """

    Config = DINOConfig

    def __init__(self, config: DINOConfig, encoder: Encoder, samples: Samples) -> None:
        super().__init__(config, encoder, samples)
        self._loss = losses.DINO(
            config.prototypes, config.student_temperature, config.centre_momentum
        )
        self._config = config

    def make_projector(self, config: DINOConfig, width: int) -> nn.Module:
        """An MLP, and the prototypes that its normalised output is compared with."""
        return nn.Sequential(
            super().make_projector(config, width), Prototypes(config.projection, config.prototypes)
        )

    @property
    def prototypes(self) -> Prototypes:
        """The projector's last layer."""
        found = list(self.projector.children())[-1]
        assert isinstance(found, Prototypes)
        return found

    @property
    def temperature(self) -> float:
        """The teacher's at this step: rises linearly, then stays."""
        return self._config.temperature(self.progress)

    def step(self, crops: Crops) -> Step:
        """Cross entropy of the student's views with the teacher's of the two large ones."""
        self.prototypes.frozen = self.progress < self._config.freeze
        views = self.views(crops)
        taught = self.taught(views[:2])
        embedding, student = self.embed(views)
        probabilities = [self._loss.probabilities(rows, self.temperature) for rows in taught]
        loss = self._loss(student, probabilities)
        self._loss.follow(torch.cat(taught))
        return Step(
            loss,
            embedding=embedding,
            positives=(student[0], student[1]),
            teacher_probs=probabilities[0],
        )
