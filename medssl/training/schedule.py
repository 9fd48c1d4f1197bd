"""What changes over a run: the learning rate and the weight decay, as functions of the step."""

from __future__ import annotations

import math
from dataclasses import dataclass

from medssl.training.settings import LoopConfig


@dataclass(frozen=True)
class Schedule:
    """The factor on the learning rate of every step; all lengths in steps.

    ``wsd`` is the infinite schedule of Singh et al. 2025, "Beyond cosine decay", sec. 3: linear
    warm-up, a cosine from 1 to ``hold``, then ``hold`` for as long as the run lasts; only its last
    ``decay`` steps anneal, by hold (end / hold)^(n / decay) with n = 1 .. decay. A run that is
    continued goes on from where its annealing began.

    Attributes:
        kind: constant, cosine, polynomial or wsd.
        steps: of the whole run.
        warmup: of the linear warm-up.
        end: the last factor, of cosine, polynomial and wsd.
        power: of the polynomial.
        cooldown: of wsd's cosine.
        hold: wsd's constant factor.
        decay: of wsd's annealing.
    """

    kind: str
    steps: int
    warmup: int = 0
    end: float = 0.0
    power: float = 1.0
    cooldown: int = 0
    hold: float = 1.0
    decay: int = 0

    @classmethod
    def of(cls, config: LoopConfig, first_steps: int) -> Schedule:
        """The schedule of a run.

        Args:
            config: of the run.
            first_steps: the steps it was first started with: fractions are of these, so that
                more steps do not move what has been.
        """
        wsd = config.schedule == "wsd"
        return cls(
            kind=config.schedule,
            steps=config.steps,
            warmup=round(config.warmup * first_steps),
            end=config.lr_end if config.lr_end is not None else (0.01 if wsd else 0.0),
            power=config.power,
            cooldown=round(config.wsd_cooldown * first_steps),
            hold=config.wsd_hold,
            decay=max(1, round(config.wsd_decay * first_steps)) if wsd else 0,
        )

    @property
    def branch(self) -> int:
        """Steps after which the annealing begins; of other schedules, all."""
        return max(0, self.steps - self.decay)

    def factor(self, step: int) -> float:
        """The factor on the learning rate in ``step``, from 0."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        if self.kind == "constant":
            return 1.0
        if self.kind == "wsd":
            return self._wsd(step)
        left = 1.0 - min(1.0, (step - self.warmup) / max(1, self.steps - self.warmup))
        if self.kind == "polynomial":
            return self.end + (1.0 - self.end) * math.pow(left, self.power)
        return self.end + (1.0 - self.end) * 0.5 * (1.0 - math.cos(math.pi * left))

    def _wsd(self, step: int) -> float:
        if step >= self.branch:
            share = (step - self.branch + 1) / self.decay
            return float(self.hold * (self.end / self.hold) ** min(1.0, share))
        since = step - self.warmup
        if since < self.cooldown:
            fallen = 0.5 * (1.0 + math.cos(math.pi * since / self.cooldown))
            return self.hold + (1.0 - self.hold) * fallen
        return self.hold
