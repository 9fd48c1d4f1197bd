"""A run of pretraining that is watched; where it breaks, the step that broke it is kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from medssl import tracking
from medssl.errors import MedsslError
from medssl.training.data import loader
from medssl.training.devices import is_leader
from medssl.training.loop import AfterStep, History, fit
from medssl.training.prepare import Prepared
from medssl.training.replay import KEPT, keep
from medssl.training.watch import Watch

if TYPE_CHECKING:
    from medssl.training.pretrain import PretrainConfig


def fit_watched(
    prepared: Prepared,
    config: PretrainConfig,
    out: Path,
    run: tracking.Run,
    resume: bool,
    after_step: AfterStep,
) -> History:
    """Train by :func:`medssl.training.loop.fit`.

    Raises:
        MedsslError: what `fit` raises, and TRAINING_COLLAPSED. Of that and TRAINING_DIVERGED the
            step is kept in ``out/replay``.
    """
    watch = Watch.of(prepared.task, config.watch, config)
    try:
        return fit(
            prepared.task,
            prepared.source,
            config,
            out,
            run,
            resume=resume,
            after_step=after_step,
            watchers=[watch],
            description=f"pretraining ({config.method})",
        )
    except MedsslError as error:
        if error.code not in KEPT or not is_leader():
            raise
        bad = watch.first_bad()
        step = bad or watch.step
        batch = next(iter(loader(prepared.source, config.batch_size, step - 1, step, 0)))
        keep(out, step, error, config.model_dump(mode="json"), batch)
        raise MedsslError(
            error.code,
            "The loss or its gradient became NaN or infinite" if bad else error.what,
            where=f"step {step}",
            fix=f"{error.fix} With --replay, `medssl pretrain` shows that step tensor by tensor.",
        ) from None
