"""SimCLR: two views of one image are alike, views of others are not (Chen et al. 2020)."""

from __future__ import annotations

import math
from typing import Any

from pydantic import Field
from torch import nn

from medssl.losses import NTXent
from medssl.methods.joint import JointConfig, TwoViews


class SimCLRConfig(JointConfig):
    """``temperature`` of the loss; sizes of the projector; how a view is drawn."""

    temperature: float = Field(0.2, gt=0)


class SimCLR(TwoViews):
    """SimCLR with any encoder."""

    Config = SimCLRConfig

    def make_loss(self, config: Any) -> nn.Module:
        """NT-Xent."""
        return NTXent(config.temperature)

    def trivial_loss(self, samples: int) -> float:
        """All candidates of an anchor are alike."""
        return math.log(2 * samples - 1)
