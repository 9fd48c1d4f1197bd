"""ReSSL: two views stand in the same relation to other images (Zheng et al. 2021)."""

from __future__ import annotations

import torch.nn.functional as F
from pydantic import Field

from medssl.losses import Relation
from medssl.methods.base import Crops, Samples, Step
from medssl.methods.joint import JointConfig, StudentTeacher, TeacherConfig
from medssl.methods.view_config import ViewConfig
from medssl.networks import Encoder, Queue

# Crops and small rotations, no change of intensity: relations that can be relied on.
WEAK_VIEW = ViewConfig(rotation=5.0, crop_scale=(0.6, 1.0))


class ReSSLConfig(JointConfig, TeacherConfig):
    """The student sees ``view``, the teacher ``second``, which should be the weaker one."""

    temperature: float = Field(0.1, gt=0, description="of the student's relations")
    teacher_temperature: float = Field(
        0.04, gt=0, description="of the teacher's; should be below `temperature`"
    )
    queue: int = Field(4096, ge=2, description="the teacher's embeddings that are kept")
    second: ViewConfig | None = Field(WEAK_VIEW, description="of the teacher; null: as the first")


class ReSSL(StudentTeacher):
    """ReSSL with any encoder. Modules also: ``queue``."""

    Config = ReSSLConfig

    def __init__(self, config: ReSSLConfig, encoder: Encoder, samples: Samples) -> None:
        super().__init__(config, encoder, samples)
        self.queue = Queue(config.queue, config.projection)
        self._loss = Relation(config.temperature, config.teacher_temperature)

    def step(self, crops: Crops) -> Step:
        """The relations of both to the kept embeddings; then the teacher's are kept."""
        strong, weak = self.views(crops)
        (teacher,) = self.taught([weak])
        embedding, (student,) = self.embed([strong])
        kept = self.queue.rows
        target = self._loss.relations(teacher, kept)
        loss = self._loss(student, target, kept)
        self.queue.push(F.normalize(teacher.float()))
        return Step(
            loss,
            embedding=embedding,
            positives=(student, teacher),
            teacher_probs=target,
        )
