"""Timing rivals side by side: one run, taking turns, so that all meet the same machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def take_turns(
    rows: Mapping[str, Callable[[], object]], rounds: int, warm: int = 1
) -> dict[str, list[float]]:
    """Seconds of every round by name; each round runs every row once, in turn.

    Args:
        rows: what to time.
        rounds: that count.
        warm: rounds before them that do not.
    """
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    for number in range(warm + rounds):
        for name, run in rows.items():
            started = time.perf_counter()
            run()
            if number >= warm:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def ratio(seconds: Mapping[str, list[float]], of: str, to: str) -> float:
    """How many times as long `of` takes as `to`: the median over the rounds."""
    pairs = zip(seconds[of], seconds[to], strict=True)
    return statistics.median(a / b for a, b in pairs)
