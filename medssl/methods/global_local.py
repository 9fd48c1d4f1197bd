"""Contrast of global and local features (Chaitanya et al. 2020): the encoder by where in the body
its crops lie, the first stages of segmentation's decoder by the regions of its map."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from medssl.losses import PartitionContrast, RegionContrast
from medssl.losses.partition_contrast import Positives
from medssl.methods.base import Crops, Samples, Step
from medssl.methods.joint import JointConfig, JointEmbedding
from medssl.methods.partitions import Axis, axis_number, check_reach, partition_of
from medssl.networks import Encoder, first_stages_of_decoder, pooled
from medssl.networks.conv import conv
from medssl.networks.patches import crop_to, split_patches
from medssl.views import IntensityParams, make_views
from medssl.views.view import view_spacing

REGION = 3  # cells along each side of a region, as in the paper


class GlobalLocalConfig(JointConfig):
    """Volumes are divided into ``partitions`` along ``axis``; sizes of projector, decoder and head;
    how a view is drawn."""

    temperature: float = Field(0.1, gt=0)
    partitions: int = Field(4, ge=2)
    axis: Axis | None = Field(
        None,
        description="right, front or up; of pictures rows or columns; null: across the plane of 2D "
        "crops of volumes, else up or rows",
    )
    positives: Positives = Field(
        "partitions", description="also of one partition of different volumes; or views alone"
    )
    permute_partitions: bool = Field(
        False, description="a control: every crop gets a random partition"
    )
    decoder_blocks: int = Field(
        3, ge=0, description="stages of the decoder to train, or all it has; 0: no local loss"
    )
    local_positives: Literal["views", "partitions"] = "views"
    local_projection: int = Field(64, ge=1, description="channels of both layers of its head")
    regions: int = Field(13, ge=1, description="of a map that are told from those beside them")


class GlobalLocal(JointEmbedding):
    """The global and the local loss in one run; the local one does not reach the encoder.

    Modules: those of :class:`JointEmbedding`, and of the local loss ``decoder`` and ``head``.
    """

    Config = GlobalLocalConfig
    _asked: Tensor

    def __init__(self, config: GlobalLocalConfig, encoder: Encoder, samples: Samples) -> None:
        super().__init__(config, encoder, samples)
        self._axis = axis_number(config.axis, samples)
        self._partitions, self._random = config.partitions, config.permute_partitions
        self._intensity = (config.second or config.view).settings().intensity
        self._loss: nn.Module = PartitionContrast(config.temperature, config.positives)
        self._local = config.decoder_blocks > 0
        self._across = config.local_positives == "partitions"
        if self._axis is not None:
            self.bands = self._axis, config.partitions
        if self._local:
            self._make_local(config, encoder, samples)

    def _make_local(self, config: GlobalLocalConfig, encoder: Encoder, samples: Samples) -> None:
        self.decoder = first_stages_of_decoder(encoder, config.decoder_blocks)
        stride, width = self.decoder.stage_strides[-1], config.local_projection
        cells = [-(-size // stride) for size in samples.patch_size]
        self._lattice = [n // REGION for n in cells]
        if min(self._lattice) < 1 or max(self._lattice) < 2:
            raise ValueError(
                f"the map that {len(self.decoder.stages)} stage(s) of this encoder's decoder make "
                f"has {cells} cells, too few for regions of {REGION} a side beside each other; "
                "take more decoder_blocks, a larger patch, or decoder_blocks 0"
            )
        self.head = nn.Sequential(
            conv(encoder.dims, self.decoder.channels, width, 1, bias=True),
            nn.ReLU(),
            conv(encoder.dims, width, width, 1, bias=True),
        )
        self._local_loss = RegionContrast(self._lattice, config.regions, config.temperature)
        numbers = torch.arange(math.prod(cells), dtype=torch.float64).view(1, 1, *cells)
        whole = crop_to(numbers, [n * REGION for n in self._lattice])
        asked = split_patches(whole, self._lattice)[0, self._local_loss.places]
        self.register_buffer("_asked", asked.long(), persistent=False)

    def views(self, crops: Crops) -> list[Tensor]:
        """Two views of every crop; for the local loss the first one again, changed once more in
        intensity alone, so that every place stays where it is."""
        made = make_views(crops.image, crops.draw, self._plans, crops.spacing)
        images = [view.image for view in made]
        if self._local:
            changes = IntensityParams.draw(crops.draw.fork(1000), self._intensity)
            images.append(changes.apply(images[0], view_spacing(made[0].theta, crops.spacing)))
        return images

    def partition(self, crops: Crops) -> Tensor:
        """The number of the partition that each crop lies in, or is said to: int64 (B,)."""
        if self._random:
            return crops.draw.fork(1001).integers(0, self._partitions)
        return partition_of(crops, self._axis, self._partitions)

    def step(self, crops: Crops) -> Step:
        """The sum of both losses; they train different modules."""
        if self.number == 0 and not self._random:
            check_reach(crops, self._axis, self._partitions)
        first, second, *again = self.views(crops)
        partition = self.partition(crops)
        maps = self.encoder(torch.cat((first, second)))
        features = pooled(maps)
        z1, z2 = self.projector(features).chunk(2)
        loss = self._loss(z1, z2, partition, crops.volume)
        logs = {"global_loss": loss.detach()}
        if again:
            local = self._local_step(first, [m[: len(first)] for m in maps], again[0], crops)
            loss, logs["local_loss"] = loss + local, local.detach()
        return Step(loss, logs, embedding=features[: len(first)], positives=(z1, z2))

    def _local_step(self, view: Tensor, maps: list[Tensor], again: Tensor, crops: Crops) -> Tensor:
        """The local loss of a view, with the maps it has, and of the same places again."""
        with torch.no_grad():
            others = self.encoder(again)
        joined = [torch.cat((m.detach(), o)) for m, o in zip(maps, others, strict=True)]
        made = self.decoder(joined, torch.cat((view, again)))
        alike = (self.partition(crops), crops.volume) if self._across else ()
        loss: Tensor = self._local_loss(*self._regions(made).chunk(2), *alike)
        return loss

    def _regions(self, made: Tensor) -> Tensor:
        """The head's map of the decoder's (N, C, *cells) in the regions that the loss asks for,
        (N, P, cells x channels): the head sees cell by cell, so no other cell goes through it."""
        cells = made.flatten(2).transpose(1, 2).index_select(1, self._asked.flatten())
        shape = *self._asked.shape, *(1,) * (made.ndim - 4)
        seen: Tensor = self.head(cells.view(len(made), *shape, -1).movedim(-1, 1))
        return seen.movedim(1, -1).flatten(2)

    def preview(self, crops: Crops) -> dict[str, Tensor]:
        """The crop and its views."""
        names = ("view 1", "view 2", "view 1 again")
        return {"crop": crops.image, **dict(zip(names, self.views(crops), strict=False))}
