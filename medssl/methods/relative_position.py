"""Relative position: say on which side of a patch another one lies (Doersch et al. 2015,
"Unsupervised visual representation learning by context prediction"; in 3D Taleb et al. 2020, "3D
self-supervised methods for medical imaging")."""

from __future__ import annotations

import itertools
from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from medssl.methods.base import Crops, Samples, Step
from medssl.methods.joint import check_local
from medssl.methods.pretext import ANSWER, JITTER, Pretext, PretextConfig, answered
from medssl.networks import Encoder, Projector, pooled
from medssl.views import Edges


class RelativePositionConfig(PretextConfig):
    """Three patches stand side by side along each axis of the part that is looked at, and fill it
    with the gaps between them. The patch in the middle is compared with one of the others.
    """

    gap: float = Field(
        0.5, ge=0, description="between neighbouring patches, over the side of a patch"
    )
    jitter: float = Field(
        0.07, ge=0, description="largest shift of a patch along each axis, over its side"
    )
    size: list[int] | None = Field(
        None, description="voxels of a patch as the encoder sees it; null: about as many as it has"
    )
    hidden: int = Field(256, ge=1, description="width of the head's hidden layer")

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if 2 * self.jitter > self.gap:
            raise ValueError("patches overlap where jitter is more than half the gap")
        return self


def neighbours(dims: int) -> Tensor:
    """The steps from a cell to those around it, in row-major order: int64 (3^d - 1, d)."""
    steps = [step for step in itertools.product((-1, 0, 1), repeat=dims) if any(step)]
    return torch.tensor(steps)


class RelativePosition(Pretext):
    """Relative position with any encoder.

    Modules: ``encoder`` and ``head``, two layers on the pooled features of both patches.

    Attributes:
        steps: int64 (n, d), where a neighbour may lie.
    """

    Config = RelativePositionConfig
    steps: Tensor

    def __init__(self, config: RelativePositionConfig, encoder: Encoder, samples: Samples) -> None:
        super().__init__(config, encoder, samples)
        self._gap, self._jitter = config.gap, config.jitter
        across = 3 + 2 * config.gap + 2 * config.jitter
        if config.size is not None and len(config.size) != encoder.dims:
            raise ValueError(f"size has {encoder.dims} numbers here, not {len(config.size)}")
        stride = encoder.strides[-1]
        # At least two cells of the deepest map, which a norm over space needs.
        own = [max(2, round(n / across / stride)) * stride for n in samples.patch_size]
        self._size = tuple(config.size or own)
        check_local(encoder, self._size, "patches", "take another size")
        steps = neighbours(encoder.dims)
        self.register_buffer("steps", steps, persistent=False)
        self.head = Projector(2 * encoder.channels[-1], config.hidden, len(steps))

    def step(self, crops: Crops) -> Step:
        """Cross entropy of where the second patch lies, seen from the first."""
        features, logits = self._guess(self.views(crops))
        return answered(logits, self._drawn(crops), features)

    def views(self, crops: Crops) -> list[Tensor]:
        """The patch in the middle and its neighbour, of every crop."""
        return [
            self.change(self.look(crops, edges, self._size), crops.draw, number)
            for number, edges in enumerate(self.boxes(crops, self._drawn(crops)))
        ]

    def boxes(self, crops: Crops, which: Tensor) -> list[Edges]:
        """Where the patch in the middle lies, and its neighbour number `which`, int64 (B,)."""
        first, last = self.part(crops)
        side = (last - first) / (3 + 2 * self._gap + 2 * self._jitter)
        middle = (first + last) / 2
        far = (1 + self._gap) * self.steps[which]
        moved = crops.draw.fork(JITTER).uniform(-self._jitter, self._jitter, 2, side.shape[1])
        centres = (middle + moved[:, 0] * side, middle + (far + moved[:, 1]) * side)
        return [(centre - side / 2, centre + side / 2) for centre in centres]

    def preview(self, crops: Crops) -> dict[str, Tensor]:
        """The crop, both patches, where they lie, and where the network puts the second."""
        first, second = views = self.views(crops)
        drawn, guessed = self._drawn(crops), self._guess(views)[1].argmax(1)
        return {
            "crop": crops.image,
            "patch": first,
            "neighbour": second,
            "where": only(crops.image, self.boxes(crops, drawn)),
            "guess": only(crops.image, self.boxes(crops, guessed)),
        }

    def _drawn(self, crops: Crops) -> Tensor:
        """The number of each crop's neighbour: int64 (B,)."""
        return crops.draw.fork(ANSWER).integers(0, len(self.steps))

    def _guess(self, views: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Pooled features of the first patches (B, channels), and logits of the places (B, n)."""
        first, second = pooled(self.encoder(torch.cat(views))).chunk(2)
        return first, self.head(torch.cat((first, second), dim=1))


def only(images: Tensor, boxes: list[Edges]) -> Tensor:
    """Images (B, C, *spatial) that are dark outside of the boxes; volumes as they look from above,
    the same in every slice, as no one slice has to meet the boxes."""
    shown = torch.zeros(len(images), 1, *images.shape[2:], dtype=torch.bool, device=images.device)
    for first, last in boxes:
        inside = torch.ones((), dtype=torch.bool, device=images.device)
        for axis, length in enumerate(images.shape[2:]):
            place = torch.arange(length, device=images.device)
            within = (place >= first[:, axis, None]) & (place <= last[:, axis, None])
            shape = [len(images), 1, *(1,) * (images.ndim - 2)]
            shape[2 + axis] = length
            inside = inside & within.reshape(shape)
        shown |= inside
    found = images.where(shown, images.amin())
    return found.amax(4, keepdim=True).expand_as(found) if found.ndim == 5 else found
