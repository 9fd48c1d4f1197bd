"""What pretext tasks share: a part of a crop to look at, and a question with an answer.

The answer is drawn, so it costs nothing to know; an encoder that can give it has seen how a body is
built, or has found a shortcut. So views lie inside the volume, where no padding shows which way is
which, and a view's intensity says nothing of where it comes from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from medssl.methods.base import Crops, Method, MethodConfig, Samples, Step
from medssl.methods.intensity_config import IntensityConfig
from medssl.networks import Encoder
from medssl.processes import mean_value
from medssl.views import Draw, Edges, IntensityParams, box_view, box_within

ANSWER, PLACE, JITTER, INTENSITY = 1000, 1001, 1002, 1003  # streams of a sample's random numbers


class PretextConfig(MethodConfig):
    """Which part of a crop is looked at, and how its intensity is changed."""

    share: tuple[float, float] = Field(
        (0.7, 1.0), description="range of the side of the part, over that of the crop"
    )
    intensity: IntensityConfig = IntensityConfig(
        gamma=(0.7, 1.4), contrast=(0.7, 1.3), brightness=0.2, noise=0.1, blur=(0.1, 1.0)
    )

    @model_validator(mode="after")
    def _share_of_a_whole(self) -> Self:
        if not 0 < self.share[0] <= self.share[1] <= 1:
            raise ValueError("share must be a range, ascending, within 0 to 1")
        return self


class Pretext(Method):
    """Base of the methods that ask a question of which the answer is known.

    Modules: ``encoder``, and ``head``, which a subclass makes.
    """

    def __init__(self, config: Any, encoder: Encoder, samples: Samples) -> None:
        super().__init__(config, encoder, samples)
        self.encoder = encoder
        self._share, self._intensity = config.share, config.intensity.intensity_settings()

    def part(self, crops: Crops, cube: bool = False) -> Edges:
        """The part of each crop that is looked at, drawn anew; no padding in it.

        Args:
            crops: of which.
            cube: a part as long in mm along each axis.
        """
        first, last = inside = crops.inside()
        sides = last - first
        if cube:
            sides = (sides * crops.spacing).amin(1, keepdim=True) / crops.spacing
        units = crops.draw.fork(PLACE).uniform(0.0, 1.0, 1 + sides.shape[1])
        low, high = self._share
        return box_within(inside, sides * (low + (high - low) * units[:, :1]), units[:, 1:])

    def look(self, crops: Crops, edges: Edges, size: Sequence[int]) -> Tensor:
        """A box of each crop, its intensity as it was: float32 (B, C, *size)."""
        return box_view(crops.image, edges, size, crops.spacing).image

    def change(self, view: Tensor, draw: Draw, number: int = 0) -> Tensor:
        """A view with its intensity changed; views of other numbers are changed independently."""
        drawn = IntensityParams.draw(draw.fork(INTENSITY + number), self._intensity)
        return drawn.apply(view)


def answered(logits: Tensor, answer: Tensor, embedding: Tensor) -> Step:
    """The step of a question with K possible answers: mean cross entropy.

    Its `trivial_loss` is ln K, what a network gives that answers every sample alike.

    Args:
        logits: (*any, K).
        answer: int64 (*any), 0 to K - 1.
        embedding: (B, D), the encoder's features.
    """
    logits, choices = logits.float().flatten(0, -2), logits.shape[-1]
    with torch.autocast(logits.device.type, enabled=False):
        loss = mean_value(F.cross_entropy(logits, answer.flatten()))
    right = (logits.detach().argmax(1) == answer.flatten()).float().mean()
    return Step(
        loss,
        logs={"accuracy": right, "chance": torch.full_like(right, 1 / choices)},
        embedding=embedding.detach(),
        trivial_loss=math.log(choices),
    )
