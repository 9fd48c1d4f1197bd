"""DirectPred: BYOL whose predictor is computed, not trained (Tian et al. 2021)."""

from __future__ import annotations

from pydantic import Field

from medssl.methods.byol import BYOL
from medssl.methods.joint import JointConfig, TeacherConfig
from medssl.networks import DirectPredictor


class DirectPredConfig(JointConfig, TeacherConfig):
    """How the predictor follows; sizes of the projector; momentum of the teacher; views."""

    rho: float = Field(0.3, ge=0, lt=1, description="momentum of the projections' correlation")
    eps: float = Field(0.01, ge=0, description="added to the predictor's eigenvalues, largest 1")


class DirectPred(BYOL):
    """DirectPred with any encoder."""

    Config = DirectPredConfig

    def make_predictor(self, config: DirectPredConfig) -> DirectPredictor:
        """The predictor that follows the student's projections."""
        return DirectPredictor(config.projection, config.rho, config.eps)
