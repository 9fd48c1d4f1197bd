"""SiT: recover spoilt views and tell images apart, in one pass (Atito et al. 2021, "SiT:
self-supervised vision transformer")."""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor, nn

from medssl.losses import InfoNCE, MaskedL1
from medssl.methods.base import Crops, Samples, Step
from medssl.methods.corruption import Corruption, CorruptionConfig
from medssl.methods.joint import JointConfig, StudentTeacher, TeacherConfig
from medssl.networks import Encoder, PatchHead, pooled
from medssl.processes import world


class SiTConfig(JointConfig, TeacherConfig, CorruptionConfig):
    """``temperature`` of the contrastive loss, and what the reconstruction weighs against it; which
    part of a view is replaced; the projector, the teacher, and how a view is drawn.
    """

    temperature: float = Field(0.2, gt=0)
    reconstruction: float = Field(
        5.0, ge=0, description="weight of the reconstruction; the contrastive loss has 1"
    )


class SiT(StudentTeacher):
    """SiT with any encoder.

    Modules: those of :class:`StudentTeacher`, and ``head``.
    """

    Config = SiTConfig

    def __init__(self, config: SiTConfig, encoder: Encoder, samples: Samples) -> None:
        super().__init__(config, encoder, samples)
        self.head = PatchHead(encoder)
        self._corruption = Corruption(config, encoder, samples.patch_size)
        self._contrast: nn.Module = InfoNCE(config.temperature)
        self._reconstruction = MaskedL1()
        # The gradient's size then depends less on the temperature (Chen et al. 2021, "MoCo v3").
        self._scale, self._weight = 2.0 * config.temperature, config.reconstruction

    def step(self, crops: Crops) -> Step:
        """L1 on what was replaced in both views, and InfoNCE of each spoilt view among the
        teacher's projections of the other, unspoilt one.
        """
        views = self.views(crops)
        k1, k2 = self.taught(views)
        given, masks = self._spoilt(views, crops)
        features = self.encoder(torch.cat(given))
        means = pooled(features)
        q1, q2 = self.projector(means).chunk(2)
        contrast = self._scale * (self._contrast(q1, k2) + self._contrast(q2, k1)) / 2
        recovered = self._reconstruction(self.head(features), torch.cat(views), torch.cat(masks))
        return Step(
            contrast + self._weight * recovered,
            logs={"contrast": contrast.detach(), "reconstruction": recovered.detach()},
            embedding=means[: len(crops)],
            positives=(q1, k2),
            trivial_loss=self._scale * math.log(len(crops) * world()[1])
            if not self._weight
            else None,
        )

    def preview(self, crops: Crops) -> dict[str, Tensor]:
        """The crop, its views, and of the first one what is left of it and what is made of that."""
        views = self.views(crops)
        given, masks = self._spoilt(views, crops)
        made = self.head(self.encoder(given[0])).to(given[0].dtype)
        return {
            **super().preview(crops),
            "spoilt": given[0],
            "reconstruction": views[0].where(~masks[0], made),
        }

    def _spoilt(self, views: list[Tensor], crops: Crops) -> tuple[list[Tensor], list[Tensor]]:
        pairs = [
            self._corruption.apply(view, crops.draw.fork(1000 + k)) for k, view in enumerate(views)
        ]
        return [view for view, _ in pairs], [mask for _, mask in pairs]
