"""What the loop trains, and what follows it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

from torch import Tensor, nn


class Task(nn.Module):
    """What the loop trains: called with a batch it returns the loss (scalar) and what to log.

    ``rates`` are factors on the learning rate by the name of a parameter; others have 1.
    """

    rates: Mapping[str, float] = MappingProxyType({})

    def forward(self, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """One step on one batch (:class:`medssl.training.data.Batch`)."""
        raise TypeError("a Task defines forward")

    def begin_step(self, number: int, progress: float) -> None:
        """Called before each step; ``number`` from 0, ``progress`` from 0 to below 1."""

    def after_update(self, progress: float) -> None:
        """Called after each optimiser step; ``progress`` goes from 0 to 1 at the last step."""


class Watcher(Protocol):
    """Follows a run. No method waits for the device in a step that is not logged."""

    def before_step(self, step: int, batch: Any) -> None:
        """Before a batch is trained on, in step ``step`` (from 1); of a micro-step too."""

    def after_backward(self, step: int, loss: Tensor, norm: Tensor) -> None:
        """The loss and the gradient's norm of a step (scalars on the device), before its update."""

    def on_row(self, step: int, row: dict[str, float]) -> None:
        """The numbers of a step that is logged; may raise MedsslError to stop the run."""


AfterStep = Callable[[int, Any], dict[str, float] | None]
Batches = Callable[..., Iterable[Any]]
