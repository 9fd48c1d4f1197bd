"""Dense contrast: every cell finds its own place in the other view among other places (Wang et al.
2021, "Dense contrastive learning for self-supervised visual pre-training", "DenseCL")."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from medssl.losses import CellInfoNCE
from medssl.methods.base import Crops, Samples, Step
from medssl.methods.dense import (
    DenseStudentTeacher,
    DenseTeacherConfig,
    Embedded,
    Partners,
    watched,
)
from medssl.networks import Encoder, SubjectQueue
from medssl.views import View, distances, far_pairs


class DenseContrastConfig(DenseTeacherConfig):
    """How cells find their partners, what they are told apart from, what cells weigh against whole
    views; which map is compared; projectors, teacher and views.
    """

    temperature: float = Field(0.2, gt=0)
    dense: float = Field(
        0.5, ge=0, le=1, description="weight of the loss of cells; that of whole views has the rest"
    )
    correspondence: Literal["geometry", "features"] = Field(
        "geometry", description="a cell's partner: the one at its place, or the most alike"
    )
    queue: int = Field(256, ge=0, description="earlier crops that are negatives; 0: none")
    far: float | None = Field(
        None,
        ge=0,
        description="mm beyond which cells of the same crop are negatives; null: none are",
    )


class DenseContrast(DenseStudentTeacher):
    """DenseCL with any encoder.

    Modules: those of :class:`DenseStudentTeacher`, and ``queue``.
    """

    Config = DenseContrastConfig

    def __init__(self, config: DenseContrastConfig, encoder: Encoder, samples: Samples) -> None:
        super().__init__(config, encoder, samples)
        self._by_place = config.correspondence == "geometry"
        self._weight, self._far = config.dense, config.far
        self._loss = CellInfoNCE(config.temperature)
        # A row holds the projection of a crop and the mean of those of its cells.
        self.queue = SubjectQueue(config.queue, 2 * config.projection)

    def step(self, crops: Crops) -> Step:
        """The losses of whole views and of cells, of each view against the teacher's other one."""
        views = self.mapped_views(crops)
        k1, k2 = self.taught(views)
        q1, q2 = self.embed_cells(views)
        first, second = views
        partners = self.partners(first, second, q1, k2)
        back = self.partners(second, first, q2, k1)
        there = self._losses(crops, q1, k2, partners, self.far(first, second))
        here = self._losses(crops, q2, k1, back, self.far(second, first))
        self.queue.push(_rows(k1), crops.subject)
        whole, dense, trivial = (torch.stack(pair).mean() for pair in zip(there, here, strict=True))
        return Step(
            (1 - self._weight) * whole + self._weight * dense,
            {"whole": whole.detach(), "dense": dense.detach()},
            embedding=q1.features,
            positives=watched(crops, q1.cells, k2.cells, partners),
            trivial_loss=trivial,
        )

    def partners(self, view: View, other: View, query: Embedded, key: Embedded) -> Partners:
        """The partner of every cell of a view in the other one."""
        return self.matched(view, other) if self._by_place else self.most_alike(query, key)

    def far(self, view: View, other: View) -> Tensor | None:
        """Which cells of the other view are negatives of which cells: bool (B, P, P)."""
        if self._far is None:
            return None
        one, two = self.cells(view), self.cells(other)
        return far_pairs(two, distances(one, two), self._far)

    def _losses(
        self, crops: Crops, query: Embedded, key: Embedded, partners: Partners, far: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The loss of whole views, that of cells, and their sum where everything is the same."""
        # Another crop of the same subject may show the same place: it is no negative.
        rows, allowed = self.queue.others(_rows(key), crops.subject)
        whole, cells = rows.chunk(2, dim=1)
        one = torch.ones_like(partners.valid[:, :1])
        own = None if far is None else key.cells
        of_whole = self._loss(query.whole[:, None], key.whole[:, None], one, whole, allowed)
        of_cells = self._loss(
            query.cells, partners.of(key.cells), partners.valid, cells, allowed, own, far
        )
        trivial = (1 - self._weight) * self._loss.trivial(one, allowed)
        trivial = trivial + self._weight * self._loss.trivial(partners.valid, allowed, far)
        return of_whole, of_cells, trivial


@torch.no_grad()
def _rows(key: Embedded) -> Tensor:
    """What others are told apart from: float32 (B, 2 D)."""
    parts = (key.whole, key.cells.mean(1))
    return torch.cat([F.normalize(part.float(), dim=1) for part in parts], dim=1)
