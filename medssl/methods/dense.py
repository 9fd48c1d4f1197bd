"""What dense methods share: embeddings of cells of views, and where in the crop those cells lie.

A method that compares places is its config, its loss and one step on top of these.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from medssl.methods.base import Crops, Samples
from medssl.methods.joint import STRONG_VIEW, JointConfig, JointEmbedding, TeacherConfig
from medssl.methods.view_config import ViewConfig
from medssl.networks import (
    DenseEmbedder,
    DenseProjector,
    Encoder,
    Teacher,
    cosine_between,
    dense_embedding,
)
from medssl.views import Cells, View, cells, match_cells

# Along an axis, in the mean. Where a cell is in its view must not tell which cell of the other view
# is its partner: a convolution knows that from its padding and would learn nothing else. Of the
# pairs of two such views as below, 0.60 have the same place in both with 4 x 4 x 4 cells, 0.28 with
# 6 x 6 x 6; of two of STRONG_VIEW 0.94 and 0.72.
ENOUGH_CELLS = 6
MOST_CELLS = 4096  # all are compared with all
WATCHED_CELLS = 4  # of a sample, by which a run is watched
DENSE_VIEW = STRONG_VIEW.model_copy(update={"crop_scale": (0.1, 0.6)})


class DenseConfig(JointConfig):
    """Which of the encoder's maps is compared, sizes of the projectors, how views are drawn."""

    level: int | None = Field(
        None,
        description="number of the encoder's map, 0 the finest, -1 the deepest; null: the deepest "
        "of at least 6 cells along an axis, in the mean",
    )
    view: ViewConfig = DENSE_VIEW


@dataclass(frozen=True)
class Embedded:
    """A view in numbers.

    Attributes:
        features: the encoder's, pooled, (B, channels).
        whole: the projection of those, (B, D).
        local: the encoder's features of P cells, (B, P, channels of the level).
        cells: their projections, (B, P, D).
    """

    features: Tensor
    whole: Tensor
    local: Tensor
    cells: Tensor


@dataclass(frozen=True)
class Partners:
    """For every cell of a view a cell of the other one.

    Attributes:
        index: its number, int64 (B, P).
        valid: bool (B, P), whether there is one.
    """

    index: Tensor
    valid: Tensor

    def of(self, rows: Tensor) -> Tensor:
        """The partners' rows: (B, Q, D) -> (B, P, D)."""
        return rows.take_along_dim(self.index[:, :, None], 1)


class DenseEmbedding(JointEmbedding):
    """Base of the methods that compare cells of views.

    Modules: ``encoder``, ``projector`` of pooled features and ``dense_projector`` of cells.

    Attributes:
        level: number of the encoder's map whose cells are compared.
        grid: cells of a view along each axis.
    """

    def __init__(self, config: Any, encoder: Encoder, samples: Samples) -> None:
        super().__init__(config, encoder, samples)
        self.level, self.grid = dense_level(encoder, samples.patch_size, config.level)
        self.dense_projector = DenseProjector(
            encoder, self.level, config.hidden, config.projection, config.projector_layers
        )

    def embed_cells(self, views: Sequence[View]) -> list[Embedded]:
        """Views of one size through the encoder and both projectors, all in one pass."""
        images = torch.cat([view.image for view in views])
        parts = (self.encoder, self.dense_projector, self.projector, self.level)
        return _parted(dense_embedding(*parts, images), len(views))

    def matched(self, view: View, other: View) -> Partners:
        """The cell of the other view that shows the place of each cell's centre; none where that
        lies outside it, or either shows padding."""
        found = match_cells(view, other, self.grid)
        shown = cells(other, self.grid).inside.take_along_dim(found.index, 1)
        return Partners(found.index, found.valid & shown)

    @staticmethod
    @torch.no_grad()
    def most_alike(embedded: Embedded, other: Embedded) -> Partners:
        """The cell of the other view that is most like each cell to the encoder (Wang et al. 2021,
        "DenseCL", eq. 3)."""
        one, two = (F.normalize(each.local.float(), dim=2) for each in (embedded, other))
        index = (one @ two.transpose(1, 2)).argmax(2)
        return Partners(index, torch.ones_like(index, dtype=torch.bool))

    def cells(self, view: View) -> Cells:
        """Where the cells of a view lie in the crop."""
        return cells(view, self.grid)

    def preview(self, crops: Crops) -> dict[str, Tensor]:
        """The crop and its views; what of the first view has a partner in the second; and how much
        every cell of the second resembles the partner, in the first, of the one in its middle:
        brightest in the middle, if places are told apart.
        """
        views = self.mapped_views(crops)
        first, second = views
        one, other = self.embed_cells(views)
        shown = self._enlarged(self.matched(first, second).valid.float(), first)
        middle = sum(n // 2 * math.prod(self.grid[k + 1 :]) for k, n in enumerate(self.grid))
        asked = self.matched(second, first).of(one.cells)[:, middle, None]
        likeness = F.cosine_similarity(other.cells.float(), asked.float(), dim=2)
        axes = tuple(range(1, crops.image.ndim))
        mean, spread = (f(crops.image, axes)[:, None] for f in (torch.mean, torch.std))
        least, most = (f(likeness, 1)[:, None] for f in (torch.amin, torch.amax))
        share = (likeness - least) / (most - least).clamp(min=1e-6)
        painted = self._enlarged(mean + (4 * share - 2) * spread, second)  # a crop's usual greys
        low = crops.image.amin(axes, keepdim=True)
        return {
            "crop": crops.image,
            "view 1": first.image,
            "view 2": second.image,
            "paired of 1": first.image.where(shown > 0, low),
            "like middle of 2": painted.expand_as(second.image),
        }

    def _enlarged(self, values: Tensor, view: View) -> Tensor:
        """A value a cell as an image: (B, P) -> (B, 1, *size)."""
        return F.interpolate(values.reshape(-1, 1, *self.grid), size=view.size)


class DenseStudentTeacher(DenseEmbedding):
    """Base of the dense methods whose targets come from a teacher.

    Modules: those of :class:`DenseEmbedding`, and ``teacher``.
    """

    def __init__(self, config: Any, encoder: Encoder, samples: Samples) -> None:
        super().__init__(config, encoder, samples)
        self._momentum = float(config.momentum)
        self.teacher = Teacher(
            DenseEmbedder(self.encoder, self.dense_projector, self.projector, self.level)
        )

    def taught(self, views: Sequence[View]) -> list[Embedded]:
        """What the teacher makes of each view, without gradient.

        Asked for before the student embeds, so that what the teacher needs is free again.
        """
        return _parted(self.teacher(torch.cat([view.image for view in views])), len(views))

    def after_update(self, progress: float) -> None:
        """The teacher follows."""
        self.teacher.update(cosine_between(self._momentum, 1.0, progress))


class DenseTeacherConfig(DenseConfig, TeacherConfig):
    """Which map is compared, the momentum of the teacher, projectors and views."""


def watched(crops: Crops, query: Tensor, key: Tensor, partners: Partners) -> tuple[Tensor, Tensor]:
    """Some cells of every sample and their partners, by which a run is watched: two (n, D).

    Means over cells would not do: they are alike where all crops show the same organ.

    Args:
        crops: with the random numbers that choose among the cells.
        query: (B, P, D), of the first view.
        key: (B, Q, D), of the second view.
        partners: cells without one are taken only where there are too few with one.
    """
    cells = query.shape[1]
    order = crops.draw.fork(1000).uniform(0.0, 1.0, cells) + partners.valid
    chosen = order.topk(min(WATCHED_CELLS, cells), dim=1).indices[:, :, None]
    rows = (query, partners.of(key))
    first, second = (each.detach().take_along_dim(chosen, 1).flatten(0, 1) for each in rows)
    return first, second


def dense_level(
    encoder: Encoder, size: Sequence[int], level: int | None
) -> tuple[int, tuple[int, ...]]:
    """Which of an encoder's maps has the cells, and how many along each axis of a view.

    Args:
        encoder: any.
        size: voxels of a view.
        level: its number, counted from the end if negative; None: the deepest, whose features say
            most, that has at least `ENOUGH_CELLS`, else the finest.

    Raises:
        ValueError: there is no such map, its cells do not divide the view, or are 1 or too many.
    """
    levels = range(len(encoder.strides))
    grids = [tuple(n // stride for n in size) for stride in encoder.strides]
    whole = [k for k in levels if all(n % encoder.strides[k] == 0 for n in size)]
    if level is None:
        if not whole:
            raise ValueError(
                f"a view of {list(size)} is for none of this encoder's maps a whole number of "
                f"cells, which have {list(encoder.strides)} voxels along each axis"
            )
        enough = ENOUGH_CELLS ** len(size)
        level = max((k for k in whole if math.prod(grids[k]) >= enough), default=whole[0])
    elif level not in range(-len(levels), len(levels)):
        raise ValueError(f"this encoder has {len(levels)} maps, and none of level {level}")
    level = levels[level]
    count, stride = math.prod(grids[level]), encoder.strides[level]
    if level not in whole or not 2 <= count <= MOST_CELLS:
        raise ValueError(
            f"level {level} of this encoder has cells of {stride} voxels along each axis: a view "
            f"of {list(size)} must be a whole number of them, 2 to {MOST_CELLS} in all; take "
            "another level or patch_size"
        )
    return level, grids[level]


def _parted(parts: tuple[Tensor, Tensor, Tensor, Tensor], views: int) -> list[Embedded]:
    """Of a batch of several views, each one's part."""
    return [Embedded(*rows) for rows in zip(*(part.chunk(views) for part in parts), strict=True)]
