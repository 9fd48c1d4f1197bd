"""PixPro: what a cell and its likes are agrees with what the other view shows there (Xie et al.
2021, "Propagate yourself: exploring pixel-level consistency for unsupervised visual representation
learning")."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from torch import Tensor, nn

from medssl.losses import NegativeCosine, PixelConsistency
from medssl.methods.base import Crops, Samples, Step
from medssl.methods.dense import DenseStudentTeacher, DenseTeacherConfig, Embedded, watched
from medssl.methods.joint import PredictorConfig, together
from medssl.networks import Encoder, Projector, Propagation
from medssl.views import View, distances, near_pairs


class PixProConfig(DenseTeacherConfig, PredictorConfig):
    """Which cells are pairs, how cells are propagated, what the loss of whole views weighs; which
    map is compared; projectors, teacher and views.
    """

    distance: float = Field(
        0.7, gt=0, description="of the centres of a pair, over the larger view's cell diagonal"
    )
    power: float = Field(2.0, gt=0, description="how much more like cells count than unlike ones")
    transform_layers: int = Field(1, ge=0, description="of what is propagated of a cell")
    instance: float = Field(
        0.0, ge=0, description="weight of the loss of whole views; that of cells has 1"
    )


class PixPro(DenseStudentTeacher):
    """PixPro with any encoder.

    Modules: those of :class:`DenseStudentTeacher`, ``propagation`` and, with an instance branch,
    ``predictor``.
    """

    Config = PixProConfig

    def __init__(self, config: PixProConfig, encoder: Encoder, samples: Samples) -> None:
        super().__init__(config, encoder, samples)
        self.propagation: nn.Module = Propagation(
            config.projection, config.power, config.transform_layers
        )
        self._loss: nn.Module = PixelConsistency()
        self._distance, self._instance = config.distance, config.instance
        if config.instance:
            self.predictor = Projector(
                config.projection, config.predictor_hidden, config.projection
            )
            self._instance_loss = NegativeCosine()

    def make_projector(self, config: Any, width: int) -> nn.Module:
        """Of pooled features: the instance branch's, nothing without one."""
        return super().make_projector(config, width) if config.instance else nn.Identity()

    def step(self, crops: Crops) -> Step:
        """Each view's propagated cells against the teacher's cells at their place in the other."""
        views = self.mapped_views(crops)
        x1, x2 = self.taught(views)
        given = self.embed_cells(views)
        pairs = self.pairs(*views)
        y1, y2 = together(self.propagation, [one.cells for one in given])
        loss = self._loss(y1, x2.cells, pairs) + self._loss(y2, x1.cells, pairs.transpose(1, 2))
        loss, logs = loss / 2, {"pairs": pairs.any(2).float().mean()}
        if self._instance:
            logs["dense"] = loss.detach()
            loss = loss + self._instance * self._of_whole(given, [x1, x2])
        return Step(
            loss,
            logs,
            embedding=given[0].features,
            positives=watched(crops, y1, x2.cells, self.matched(*views)),
        )

    def pairs(self, first: View, second: View) -> Tensor:
        """The cells of two views that are nearer than `distance`: bool (B, P, P)."""
        one, other = self.cells(first), self.cells(second)
        return near_pairs(one, other, distances(one, other), self._distance)

    def _of_whole(self, given: list[Embedded], taught: list[Embedded]) -> Tensor:
        """BYOL's loss of the two views' pooled features."""
        p1, p2 = together(self.predictor, [one.whole for one in given])
        z1, z2 = (one.whole for one in taught)
        loss: Tensor = (self._instance_loss(p1, z2) + self._instance_loss(p2, z1)) / 2
        return loss
