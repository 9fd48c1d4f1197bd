"""The parts of a training step that have no state."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from medssl.errors import MedsslError
from medssl.training.settings import LoopConfig


def scalar(value: Tensor) -> Tensor:
    """What is logged of a value: float32 (), without gradient."""
    return value.detach().float().reshape(())


def moved(batch: Any, device: torch.device) -> Any:
    """The batch on the device; nothing waits."""
    if device.type == "cpu":
        return batch
    return {name: value.to(device, non_blocking=True) for name, value in batch.items()}


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed torch's generators by the step, so that a resumed run needs no state of theirs."""
    number = (seed * 1_000_003 + step) * 4096 + rank
    torch.default_generator.manual_seed(number)
    if torch.cuda.is_available():
        torch.cuda.manual_seed(number)


def check_finite(numbers: dict[str, float], step: int, config: LoopConfig) -> None:
    """Refuse to go on with numbers of the log that are not finite.

    Raises:
        MedsslError: TRAINING_DIVERGED.
    """
    # With fp16 a gradient that overflows is skipped and its scale halved: no divergence.
    free = "gradient_norm" if config.precision == "fp16" else ""
    checked = [value for name, value in numbers.items() if name != free]
    if not all(abs(value) < float("inf") for value in checked):
        raise MedsslError(
            "TRAINING_DIVERGED",
            f"The loss or its gradient is not finite at step {step}",
            fix="Lower lr, or use precision=fp32.",
        )
