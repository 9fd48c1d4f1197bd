"""Watching a run: the first step that broke it, and rules that tell a collapse.

A collapsed run costs as much as a good one and ends with an encoder that gives every image the same
features. Its loss may look fine. So the rows of the log are judged by rules, each with a threshold
that stands in the configuration. A rule must hold for several rows in a row, because a batch can be
odd.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from medssl.config import StrictModel
from medssl.errors import MedsslError
from medssl.training.data import Batch
from medssl.training.pretrain_task import PretrainTask, weight_norm
from medssl.training.settings import LoopConfig

_LOG = logging.getLogger(__name__)


class WatchConfig(StrictModel):
    """When a run counts as collapsed, and what happens then: ``stop`` with TRAINING_COLLAPSED,
    ``warn`` once and go on, ``off``. See docs/how-to/pretrain.md, "When a run stops".
    """

    on_collapse: Literal["stop", "warn", "off"] = "stop"
    patience: int = Field(10, ge=1, description="rows in a row that a rule must hold")
    grace: int = Field(200, ge=0, description="steps at the start that are not judged")
    queue: int = Field(256, ge=2, description="last embeddings whose effective rank is counted")
    std: float = Field(
        0.003, ge=0, description="collapsed where embedding_std is below; 1 is isotropic"
    )
    rank: float = Field(
        0.001, ge=0, le=1, description="collapsed where no more of the possible rank is used"
    )
    rank_drop: float = Field(
        0.05, ge=0, le=1, description="collapsed where the rank is below this share of its best"
    )
    point: float = Field(
        0.1, ge=0, description="collapsed where alignment and uniformity are both this near to 0"
    )
    teacher: float = Field(
        0.01,
        ge=0,
        le=1,
        description="collapsed where the teacher gives all samples one prototype, or each all"
        " alike, to this share of ln K",
    )
    growth: float = Field(
        10.0,
        ge=1,
        description="broken where the weights are longer than at the start by this factor",
    )
    loss: float = Field(
        0.002, ge=0, description="nothing learned where the loss is this near to its trivial value"
    )


Row = Mapping[str, float]
Rule = Callable[[Row], str]
"""What is wrong in a row of the log, "" for nothing."""


class CollapseMonitor:
    """Judges the rows of a log by the rules of a :class:`WatchConfig`.

    Args:
        config: thresholds.
        warmup: steps whose learning rate is still rising.
        shape: (rows, dimensions) of the embeddings that the rank is of, and K of the teacher's
            prototypes; called when a row is judged, for it is known after the first step only.
        weights: the length of all weights at the start.
    """

    def __init__(
        self,
        config: WatchConfig,
        warmup: int,
        shape: Callable[[], tuple[int, int, int]],
        weights: float = math.inf,
    ) -> None:
        self._config, self._shape, self._weights = config, shape, weights
        self._from = max(config.grace, warmup)
        self._best = 0.0
        self._held: dict[str, int] = {}
        self._rules: dict[str, Rule] = {
            "embedding_std": self._spread,
            "effective_rank": self._rank,
            "rank_drop": self._drop,
            "uniformity": self._point,
            "teacher": self._teacher,
            "trivial_loss": self._loss,
            "weight_norm": self._growth,
        }

    def judge(self, step: int, row: Row) -> str:
        """What has been wrong for ``patience`` rows, "" for nothing; ``row`` is of ``step``."""
        if step <= self._from:
            return ""
        for name, rule in self._rules.items():
            reason = rule(row)
            self._held[name] = self._held.get(name, 0) + 1 if reason else 0
            if self._held[name] >= self._config.patience:
                return reason
        self._best = max(self._best, row.get("effective_rank", 0.0))
        return ""

    def _spread(self, row: Row) -> str:
        value = row.get("embedding_std", math.inf)
        if value >= self._config.std:
            return ""
        return (
            "every image gets the same features, "
            f"embedding_std {value:.2g} is below {self._config.std:g}"
        )

    def _rank(self, row: Row) -> str:
        rows, dimensions, _ = self._shape()
        most = min(rows, dimensions)
        least = 1 + self._config.rank * (most - 1)
        value = row.get("effective_rank", math.inf)
        if value >= least:
            return ""
        return (
            "all features lie along one direction, "
            f"effective_rank {value:.4g} of {most} is below {least:.4g}"
        )

    def _drop(self, row: Row) -> str:
        value = row.get("effective_rank", math.inf)
        # Of a rank of a few dimensions the share is below 1, where no rank is.
        if value - 1 >= self._config.rank_drop * (self._best - 1):
            return ""
        return (
            "the features lost their dimensions, "
            f"effective_rank fell from {self._best:.4g} to {value:.4g}"
        )

    def _point(self, row: Row) -> str:
        near, spread = row.get("alignment", math.inf), row.get("uniformity", -math.inf)
        if near >= self._config.point or spread <= -self._config.point:
            return ""
        return (
            "all views of all images lie at one point, "
            f"alignment {near:.2g} and uniformity {spread:.2g} are both near 0"
        )

    def _teacher(self, row: Row) -> str:
        prototypes = self._shape()[2]
        if prototypes < 2 or "teacher_entropy" not in row:
            return ""
        most = math.log(prototypes)
        margin = self._config.teacher * most
        if row["teacher_entropy"] >= most - margin:
            return (
                f"the teacher prefers nothing: its entropy {row['teacher_entropy']:.4g} is the "
                f"largest there is, ln {prototypes}"
            )
        if row["teacher_kl_uniform"] >= most - margin:
            return f"the teacher gives all images one of its {prototypes} prototypes"
        return ""

    def _growth(self, row: Row) -> str:
        # Behind norms a network can outlive steps that replace its weights, with a loss that looks
        # fine; what it had learned is gone each time.
        times = row.get("weight_norm", 0.0) / self._weights
        if times <= self._config.growth:
            return ""
        return f"the weights ran away, they are {times:.3g} times as long as at the start"

    def _loss(self, row: Row) -> str:
        trivial = row.get("trivial_loss", math.inf)
        if not math.isfinite(trivial) or abs(row["loss"] - trivial) > self._config.loss * trivial:
            return ""
        return (
            f"the loss {row['loss']:.4g} is that of a network that gives every "
            f"image the same ({trivial:.4g})"
        )


class Watch:
    """A watcher of the loop (:class:`medssl.training.loop.Watcher`).

    Args:
        task: what is trained; told which steps to measure.
        config: thresholds, and what to do.
        due: whether the numbers of a step (1 for the first) are read.
        warmup: steps of the warm-up.
        scaled: gradients are scaled, and a step whose gradient overflows is skipped (fp16).

    Attributes:
        step: the last one that was begun, 0 before the first.
    """

    def __init__(
        self,
        task: PretrainTask,
        config: WatchConfig,
        due: Callable[[int], bool],
        warmup: int,
        scaled: bool = False,
    ) -> None:
        self._task, self._config, self._due, self._scaled = task, config, due, scaled
        self._monitor = CollapseMonitor(
            config,
            warmup,
            lambda: (*task.recent.shape, task.prototypes),
            float(weight_norm(task)),
        )
        self._warned = False
        self._first_bad: Tensor | None = None
        self.step = 0

    @classmethod
    def of(cls, task: PretrainTask, config: WatchConfig, loop: LoopConfig) -> Watch:
        """Watch a run of :func:`medssl.training.loop.fit`."""

        def due(step: int) -> bool:
            return step % loop.log_every == 0 or step in (1, loop.steps)

        warmup = round(loop.warmup * loop.steps)
        return cls(task, config, due, warmup, scaled=loop.precision == "fp16")

    def before_step(self, step: int, batch: Batch) -> None:
        """Tell the task whether to measure ``step``."""
        self.step, self._task.measure = step, self._due(step)

    @torch.no_grad()
    def after_backward(self, step: int, loss: Tensor, norm: Tensor) -> None:
        """Note on the device, without waiting, the first step whose loss or gradient is not finite.

        By the time a row is read, the weights are ruined and every later step is bad too.
        """
        if self._first_bad is None:
            self._first_bad = torch.zeros((), dtype=torch.int64, device=loss.device)
        good = loss.isfinite() & (norm.isfinite() | self._scaled)
        self._first_bad = self._first_bad.where(good | (self._first_bad > 0), step)

    def first_bad(self) -> int | None:
        """The first step whose loss or gradient was not finite; waits for the device."""
        found = 0 if self._first_bad is None else int(self._first_bad)
        return found or None

    def on_row(self, step: int, row: dict[str, float]) -> None:
        """Judge a row.

        Raises:
            MedsslError: TRAINING_COLLAPSED.
        """
        if self._config.on_collapse == "off" or self._warned:
            return
        if not all(map(math.isfinite, row.values())):
            return  # no collapse: the loop stops it as diverged
        reason = self._monitor.judge(step, row)
        if not reason:
            return
        if self._config.on_collapse == "warn":
            self._warned = True
            _LOG.warning("step %d, collapsed for %d rows: %s", step, self._config.patience, reason)
            return
        raise MedsslError(
            "TRAINING_COLLAPSED",
            f"The run has collapsed, for {self._config.patience} rows of its log: {reason}",
            where=f"step {step}",
            fix="Lower lr, look at the previews and the method's options; or go on with "
            "watch.on_collapse=warn.",
        )
