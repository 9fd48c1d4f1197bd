"""DCL: SimCLR whose positives do not weaken the pull of negatives (Yeh et al. 2022)."""

from __future__ import annotations

import math
from typing import Any

from pydantic import Field
from torch import nn

from medssl import losses
from medssl.methods.simclr import SimCLR, SimCLRConfig

_SIGMA = 0.5


class DCLConfig(SimCLRConfig):
    """As of SimCLR; ``weighted`` is DCLW."""

    weighted: bool = Field(
        False, description="positives that are far apart count more (DCLW, sigma 0.5)"
    )


class DCL(SimCLR):
    """SimCLR with the decoupled loss."""

    Config = DCLConfig

    def make_loss(self, config: Any) -> nn.Module:
        """The decoupled loss, weighted or not."""
        return losses.DCL(config.temperature, _SIGMA if config.weighted else None)

    def trivial_loss(self, samples: int) -> float:
        """All negatives of an anchor are as near as its positive, and every weight is 1."""
        return math.log(2 * samples - 2)
