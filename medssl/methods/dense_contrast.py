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
from medssl.networks import Encoder, Queue
from medssl.processes import gather_rows
from medssl.views import View, distances


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
        # A row: the projection of a crop, that of its cells, and its subject; -1 for none yet.
        self.queue = Queue(config.queue, 2 * config.projection + 1) if config.queue else None
        if self.queue is not None:
            self.queue.rows[:, -1] = -1

    def step(self, crops: Crops) -> Step:
        """The losses of whole views and of cells, of each view against the teacher's other one."""
        views = self.mapped_views(crops)
        k1, k2 = self.taught(views)
        q1, q2 = self.embed_cells(views)
        far = self.far(*views)
        partners = self.partners(views[0], views[1], q1, k2)
        back = self.partners(views[1], views[0], q2, k1)
        earlier = None if self.queue is None else self.queue.rows
        there = self._both(crops, q1, k2, partners, far, earlier)
        here = self._both(
            crops, q2, k1, back, None if far is None else far.transpose(1, 2), earlier
        )
        if self.queue is not None:
            self.queue.push(self._row(crops, k1))
        whole, dense, trivial = (torch.stack(pair).mean() for pair in zip(there, here, strict=True))
        return Step(
            (1 - self._weight) * whole + self._weight * dense,
            {"whole": whole.detach(), "dense": dense.detach()},
            embedding=q1.features,
            positives=watched(crops, q1.cells, k2.cells, partners),
            trivial_loss=trivial,
        )

    def partners(self, view: View, other: View, query: Embedded, key: Embedded) -> Partners:
        """The partner of every cell: by place, or the most alike to the encoder."""
        if self._by_place:
            return self.matched(view, other)
        with torch.no_grad():
            one, two = (F.normalize(each.local.float(), dim=2) for each in (query, key))
            index = (one @ two.transpose(1, 2)).argmax(2)
        return Partners(index, torch.ones_like(index, dtype=torch.bool))

    def far(self, first: View, second: View) -> Tensor | None:
        """Which cells of the second view are negatives of which of the first: bool (B, P, P)."""
        if self._far is None:
            return None
        one, other = self.cells(first), self.cells(second)
        return (distances(one, other) > self._far) & other.inside[:, None]

    def _both(
        self,
        crops: Crops,
        query: Embedded,
        key: Embedded,
        partners: Partners,
        far: Tensor | None,
        earlier: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The loss of whole views, of cells, and what both are where all is the same."""
        rows = gather_rows(self._row(crops, key))
        if earlier is not None:
            rows = torch.cat((rows, earlier))
        whole, dense = rows[:, :-1].chunk(2, dim=1)
        subject = rows[:, -1].long()
        # Another crop of the same body may show the same place.
        allowed = (subject != crops.subject[:, None]) & (subject >= 0)
        valid = torch.ones_like(partners.valid[:, :1])
        own = None if far is None else key.cells
        of_whole = self._loss(query.whole[:, None], key.whole[:, None], valid, whole, allowed)
        of_cells = self._loss(
            query.cells, partners.of(key.cells), partners.valid, dense, allowed, own, far
        )
        trivial = (1 - self._weight) * self._loss.trivial(valid, allowed)
        trivial = trivial + self._weight * self._loss.trivial(partners.valid, allowed, far)
        return of_whole, of_cells, trivial

    @torch.no_grad()
    def _row(self, crops: Crops, key: Embedded) -> Tensor:
        """What is kept of every crop: float32 (B, 2 D + 1)."""
        parts = (key.whole, key.cells.mean(1))
        unit = [F.normalize(part.float(), dim=1) for part in parts]
        return torch.cat((*unit, crops.subject[:, None].float()), dim=1)
