"""How a teacher over prototypes is centred and sharpened, as a config says it."""

from __future__ import annotations

from pydantic import Field

from medssl.methods.base import MethodConfig


class CentredConfig(MethodConfig):
    """Prototypes; temperatures of student and teacher; the centre (Caron et al. 2021, "DINO")."""

    prototypes: int = Field(1024, ge=2, description="K")
    student_temperature: float = Field(0.1, gt=0)
    teacher_temperature: float = Field(0.07, gt=0, description="after its warm-up")
    teacher_temperature_start: float = Field(0.04, gt=0, description="at the start")
    temperature_warmup: float = Field(
        0.3, ge=0, le=1, description="part of the run in which the teacher's temperature rises"
    )
    centre_momentum: float = Field(0.9, ge=0, le=1)
    freeze: float = Field(
        0.01, ge=0, le=1, description="part of the run in which the prototypes stand still"
    )

    def temperature(self, progress: float) -> float:
        """The teacher's when so much of the run is done: rises linearly, then stays."""
        start, end = self.teacher_temperature_start, self.teacher_temperature
        warmup = self.temperature_warmup
        return end if progress >= warmup else start + (end - start) * progress / warmup
