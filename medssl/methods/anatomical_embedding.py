"""Anatomical embeddings: every voxel gets a vector that says where in the body it is.

Yan et al. 2022, "SAM: self-supervised learning of pixel-wise anatomical embeddings in radiological
images": a voxel of one view is found again in another view of the crop, among other voxels of both
that are alike but lie elsewhere, and among voxels of other samples; by a coarse and by a fine map.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from medssl.losses import PlaceContrast
from medssl.methods.base import Crops, Method, MethodConfig, Samples, Step
from medssl.methods.joint import STRONG_VIEW
from medssl.methods.place_preview import marked, shown
from medssl.methods.view_config import ViewConfig
from medssl.networks import Encoder, PlaceEmbedding, PlaceMaps, PlacePoints, pooled
from medssl.networks.patches import take_patches
from medssl.processes import world
from medssl.views import (
    Draw,
    View,
    ViewPlan,
    cell_positions,
    in_crop,
    in_mm,
    make_views,
    match_points,
)

# As of joint methods, but less of the crop is cut away: what two views do not share is no positive.
PLACE_VIEW = STRONG_VIEW.model_copy(update={"crop_scale": (0.5, 1.0)})
_TRIES = 4  # points drawn for every positive, as not all lie in both views
_WATCHED = 4  # positives of every sample that a run is watched by


class AnatomicalEmbeddingConfig(MethodConfig):
    """Sizes of the maps, how many points are compared with how many others, how far those lie."""

    dim: int = Field(128, ge=1, description="length of a voxel's vectors")
    width: int = Field(64, ge=1, description="channels of the feature pyramid")
    fine_stride: int = Field(2, ge=1, description="voxels per cell of the fine map")
    positives: int = Field(100, ge=1, description="points of every pair of views")
    negatives: int = Field(500, ge=1, description="most similar places elsewhere, fine map")
    coarse_negatives: int = Field(200, ge=1, description="the same, coarse map")
    pool: int = Field(2000, ge=1, description="cells of a view that negatives are chosen from")
    others: int = Field(
        32, ge=0, description="random cells of every other subject's sample, negatives too"
    )
    most_others: int = Field(512, ge=1, description="of these in all, where batches are large")
    negative_distance: float = Field(
        3.0, gt=0, description="mm from a point to its nearest negative, fine map"
    )
    coarse_negative_distance: float = Field(5.0, gt=0, description="the same, coarse map")
    temperature: float = Field(0.5, gt=0)
    view: ViewConfig = PLACE_VIEW


class AnatomicalEmbedding(Method):
    """Coarse-to-fine contrast of voxels, with any encoder.

    Modules: ``network``, which holds the encoder and the heads.
    """

    Config = AnatomicalEmbeddingConfig

    def __init__(
        self, config: AnatomicalEmbeddingConfig, encoder: Encoder, samples: Samples
    ) -> None:
        super().__init__(config, encoder, samples)
        self._sizes = config.model_dump(include={"dim", "fine_stride", "width"})
        self.network = PlaceEmbedding(encoder, **self._sizes)
        self._plan = ViewPlan(config.view.settings(), samples.patch_size, 2)
        self._points, self._pool = config.positives, config.pool
        self._others, self._most_others = config.others, config.most_others
        self._far = (config.negative_distance, config.coarse_negative_distance)
        self._fine = PlaceContrast(config.temperature, config.negatives)
        self._coarse = PlaceContrast(config.temperature, config.coarse_negatives)

    @property
    def encoder(self) -> Encoder:
        """The encoder, as the network holds it."""
        return self.network.encoder

    def step(self, crops: Crops) -> Step:
        """The mean of the fine and the coarse loss; both views go through as one batch."""
        pair = self._pair(crops)
        images = torch.cat([view.image for view in pair])
        features = self.encoder(images)
        maps = self.network.embedding(features, images)
        first, second = ([cells.chunk(2)[k] for cells in maps] for k in range(2))
        points, counts = self._matched(pair, crops.draw.fork(1000))
        places = in_mm(pair[0], pair[0].to_crop(points[0])).repeat(1, 1, 2)
        found = [
            self.network.sample(PlaceMaps(*cells), where)
            for cells, where in zip((first, second), points, strict=True)
        ]
        losses = []
        for level, contrast in enumerate((self._fine, self._coarse)):
            one, two = (some[level] for some in found)
            candidates, where, whole = self._cells(
                pair, (first[level], second[level]), crops.draw.fork(1001 + level)
            )
            away = _distance(places, where) > self._far[level]
            losses.append(
                contrast(
                    torch.cat((one, two), dim=1),
                    torch.cat((two, one), dim=1),
                    counts.repeat(1, 2),
                    candidates,
                    away & whole[:, None],
                    candidates[:, : self._offered(len(crops))],
                    crops.subject,
                )
            )
        fine, coarse = losses
        return Step(
            (fine + coarse) / 2,
            {"fine_loss": fine.detach(), "coarse_loss": coarse.detach()},
            embedding=pooled(features)[: len(crops)],
            positives=(_watched(found[0]), _watched(found[1])),
        )

    def views(self, crops: Crops) -> list[Tensor]:
        """Two views of every crop."""
        return [view.image for view in self._pair(crops)]

    def preview(self, crops: Crops) -> dict[str, Tensor]:
        """Every crop with a voxel of its middle slice, how alike that is to all voxels of the crop
        itself and of the next one, and where it is found there. Similarities are the largest over
        the slices, and stretched to each crop's range.
        """
        image, size = crops.image[:, :1], crops.image.shape[2:]
        maps, network = self.network(crops.image), self.network
        point = crops.draw.fork(1003).uniform(0.3, 0.7, len(size), 1)
        point = (point * torch.tensor(size, device=point.device)[:, None]).floor()
        if len(size) == 3:
            point[:, 2] = size[2] // 2
        asked = network.sample(maps, point)
        after = PlaceMaps(*(cells.roll(-1, 0) for cells in maps))
        alike, alike_after = (network.similarity(asked, some, size) for some in (maps, after))
        return {
            "voxel": marked(image, point),
            "similarity": shown(alike, image),
            "found in the next": marked(image.roll(-1, 0), network.find(asked, after)[0]),
            "similarity to the next": shown(alike_after, image),
        }

    def bundle_state(self) -> dict[str, Tensor]:
        """The encoder's weights, and the heads' as ``embedding.*``."""
        return self.network.state_dict()

    def bundle_parts(self) -> dict[str, Any]:
        """See `Method.bundle_parts`."""
        return {"embedding": self._sizes}

    def _offered(self, crops: int) -> int:
        """Cells that every sample offers the others; as many in several processes as in one."""
        return min(self._others, -(-self._most_others // (crops * world()[1])))

    def _pair(self, crops: Crops) -> list[View]:
        return make_views(crops.image, crops.draw, [self._plan], crops.spacing)

    def _matched(self, pair: list[View], draw: Draw) -> tuple[list[Tensor], Tensor]:
        """Points of the first view and the same of the second, (B, d, P) each, and whether they are
        in both: of those drawn the first that are."""
        size = torch.tensor(pair[0].size)[:, None].to(draw.keys.device, non_blocking=True)
        drawn = draw.uniform(0.0, 1.0, len(size), _TRIES * self._points) * size - 0.5
        other, valid = match_points(pair[0], pair[1], drawn)
        valid &= in_crop(pair[0], pair[0].to_crop(drawn))
        first = valid.byte().argsort(dim=1, descending=True, stable=True)[:, : self._points]
        across = first[:, None].expand(-1, len(size), -1)
        return [drawn.gather(2, across), other.gather(2, across)], valid.gather(1, first)

    def _cells(
        self, pair: list[View], maps: tuple[Tensor, Tensor], draw: Draw
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Cells of both views, in random order: vectors (B, C, D), mm in the crop (B, d, C), and
        whether they show no padding, bool (B, C)."""
        vectors, places, whole = [], [], []
        for number, (view, cells) in enumerate(zip(pair, maps, strict=True)):
            grid = cells.shape[2:]
            order = draw.fork(number).permutation(math.prod(grid))[:, : self._pool]
            where = cell_positions(view, grid).flatten(2)
            where = where.gather(2, order[:, None].expand(-1, where.shape[1], -1))
            vectors.append(take_patches(cells.flatten(2).transpose(1, 2), order))
            places.append(in_mm(view, where))
            whole.append(in_crop(view, where))
        return torch.cat(vectors, dim=1), torch.cat(places, dim=2), torch.cat(whole, dim=1)


def _distance(one: Tensor, other: Tensor) -> Tensor:
    """Mm between points (B, d, P) and (B, d, C): (B, P, C), not by a product of low precision."""
    mode = "donot_use_mm_for_euclid_dist"
    return torch.cdist(one.transpose(1, 2), other.transpose(1, 2), compute_mode=mode)


def _watched(points: PlacePoints) -> Tensor:
    """A few points of every sample, both vectors as one whose cosine is their mean cosine."""
    few = torch.cat(points, dim=2)[:, :_WATCHED] / math.sqrt(2)
    return few.flatten(0, 1)
