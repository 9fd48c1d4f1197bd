"""Timing rivals side by side: in one run, taking turns, each by its best round.

What else a machine does only ever adds time, so the best rounds are the ones to compare.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


def take_turns(
    rows: Mapping[str, Callable[[], object]],
    rounds: int,
    warm: int = 1,
    limit: float = 60.0,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of every round by name; each round runs every row once, in turn.

    Args:
        rows: what to time.
        rounds: that count.
        warm: rounds before them that do not.
        limit: seconds after which no further round begins, one being there.
        clock: `time.process_time` where others use the machine too.
    """
    begun = time.perf_counter()
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    for number in range(warm + rounds):
        if number > warm and time.perf_counter() - begun > limit:
            break
        for name, run in rows.items():
            started = clock()
            run()
            if number >= warm:
                seconds[name].append(clock() - started)
    return seconds


def ratio(seconds: Mapping[str, list[float]], of: str, to: str) -> float:
    """How many times as long `of` takes as `to`, each in its best round."""
    return min(seconds[of]) / min(seconds[to])
