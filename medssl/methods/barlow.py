"""Barlow Twins: dimensions agree between views, and not with each other (Zbontar et al. 2021)."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from torch import nn

from medssl.losses import BarlowTwins
from medssl.methods.base import Samples
from medssl.methods.joint import JointConfig, TwoViews
from medssl.networks import Encoder


class BarlowConfig(JointConfig):
    """``redundancy``, the weight of what dimensions share; sizes of the projector, which is wider
    than what it projects.
    """

    redundancy: float = Field(0.005, ge=0, description="lambda: weight of squared correlations")
    hidden: int = Field(512, ge=1, description="width of the projector's hidden layers")
    projection: int = Field(512, ge=1, description="width of what the loss compares")
    projector_layers: int = Field(3, ge=1)


class Barlow(TwoViews):
    """Barlow Twins with any encoder."""

    Config = BarlowConfig

    def __init__(self, config: BarlowConfig, encoder: Encoder, samples: Samples) -> None:
        super().__init__(config, encoder, samples)
        self._dimensions = config.projection

    def make_loss(self, config: Any) -> nn.Module:
        """Agreement and redundancy."""
        return BarlowTwins(config.redundancy)

    def trivial_loss(self, samples: int) -> float:
        """What does not vary correlates with nothing: every dimension costs 1."""
        return float(self._dimensions)
