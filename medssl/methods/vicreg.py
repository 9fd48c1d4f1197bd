"""VICReg: two views agree, dimensions vary and do not repeat each other (Bardes et al. 2022)."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from torch import nn

from medssl import losses
from medssl.methods.joint import JointConfig, TwoViews


class VICRegConfig(JointConfig):
    """Weights of the three terms; sizes of the expander, which is wider than what it expands."""

    invariance: float = Field(25.0, ge=0, description="weight of the views' distance")
    variance: float = Field(25.0, ge=0, description="weight of what deviations lack to 1")
    covariance: float = Field(1.0, ge=0, description="weight of squared covariances")
    hidden: int = Field(512, ge=1, description="width of the projector's hidden layers")
    projection: int = Field(512, ge=1, description="width of what the loss compares")
    projector_layers: int = Field(3, ge=1)


class VICReg(TwoViews):
    """VICReg with any encoder."""

    Config = VICRegConfig

    def make_loss(self, config: Any) -> nn.Module:
        """Invariance, variance and covariance."""
        return losses.VICReg(config.invariance, config.variance, config.covariance)
