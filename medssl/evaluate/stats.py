"""Is one arm better than the other? Paired differences and their intervals."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class PairedInterval:
    """Mean of paired differences a - b with two 95 % intervals (or another ``level``).

    ``pairs`` counts differences, ``units`` the independent units they belong to. The t interval
    is the one to decide by when units are few: a bootstrap of three units is too narrow.
    """

    mean: float
    low: float
    high: float
    bootstrap_low: float
    bootstrap_high: float
    pairs: int
    units: int
    level: float = 0.95

    def as_dict(self) -> dict[str, float]:
        """All numbers by name."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def paired_interval(
    a: Sequence[float] | npt.NDArray[np.float64],
    b: Sequence[float] | npt.NDArray[np.float64],
    *,
    groups: Sequence[Hashable] | None = None,
    level: float = 0.95,
    repeats: int = 10_000,
    seed: int = 0,
) -> PairedInterval:
    """Mean difference a - b over pairs, with a t interval and a percentile bootstrap interval.

    Args:
        a, b: (n,) measurements, paired by position.
        groups: (n,) the independent unit each pair belongs to (a training seed, a subject).
            Pairs in one unit are not independent: the mean is the mean of unit means, the t
            interval treats units as the sample, and the bootstrap draws units, then pairs in
            each unit. None makes every pair its own unit.
        level: of confidence; repeats: bootstrap draws; seed: of the draws.

    Returns:
        The interval. With fewer than two units both intervals are unbounded.

    Raises:
        ValueError: lengths differ, nothing to compare, or a value is not finite.
    """
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if first.shape != second.shape or first.ndim != 1 or len(first) == 0:
        raise ValueError(f"a and b must be equally long, got {first.shape} and {second.shape}")
    difference = first - second
    if not np.isfinite(difference).all():
        raise ValueError("a and b must be finite: drop undefined pairs first, and say how many")
    units = _units(difference, groups)
    means = np.array([unit.mean() for unit in units])
    mean, n = float(means.mean()), len(units)
    if n < 2:
        inf = float("inf")
        return PairedInterval(mean, -inf, inf, -inf, inf, len(difference), n, level)
    from scipy.stats import t

    half = float(t.ppf((1 + level) / 2, n - 1) * means.std(ddof=1) / np.sqrt(n))
    tails = [50 * (1 - level), 50 * (1 + level)]
    low, high = np.percentile(_bootstrap_means(units, means, repeats, seed), tails)
    return PairedInterval(
        mean, mean - half, mean + half, float(low), float(high), len(difference), n, level
    )


def verdict(interval: PairedInterval | tuple[float, float], margin: float = 0.0) -> str:
    """What an interval says about the claim "a is better than b by more than ``margin``".

    "supported" when the whole interval lies above the margin, "not supported" when none of it
    does, otherwise "inconclusive". A PairedInterval is judged by its t interval.
    """
    low, high = (interval.low, interval.high) if isinstance(interval, PairedInterval) else interval
    if low > margin:
        return "supported"
    return "not supported" if high <= margin else "inconclusive"


def _units(
    difference: npt.NDArray[np.float64], groups: Sequence[Hashable] | None
) -> list[npt.NDArray[np.float64]]:
    if groups is None:
        return list(difference[:, None])
    if len(groups) != len(difference):
        raise ValueError(f"{len(difference)} pairs but {len(groups)} groups")
    members: dict[Hashable, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    return [difference[index] for index in members.values()]


def _bootstrap_means(
    units: list[npt.NDArray[np.float64]],
    means: npt.NDArray[np.float64],
    repeats: int,
    seed: int,
) -> npt.NDArray[np.float64]:
    """Means of resampled units, with the pairs of each drawn unit resampled too."""
    generator = np.random.default_rng(seed)
    drawn = generator.integers(len(units), size=(repeats, len(units)))
    if all(len(unit) == 1 for unit in units):
        return np.asarray(means[drawn].mean(axis=1))
    totals = np.zeros(repeats)
    for index, unit in enumerate(units):
        # each time a unit is drawn its pairs are drawn afresh
        times = (drawn == index).sum(axis=1)
        for _ in range(int(times.max())):
            wanted = times > 0
            picks = generator.integers(len(unit), size=(int(wanted.sum()), len(unit)))
            totals[wanted] += unit[picks].mean(axis=1)
            times = times - wanted
    return totals / len(units)
