"""Small charts as SVG, drawn in the colour of the text around them."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def histogram(
    counts: NDArray[np.int64] | Sequence[int],
    low: float,
    high: float,
    *,
    unit: str = "",
    title: str = "",
    size: tuple[int, int] = (220, 46),
    shaded: tuple[float, float] | None = None,
    ends: bool = True,
) -> str:
    """Bars from `low` to `high`, their height the square root of the counts.

    Args:
        counts: of bins of one width, at least one.
        low: where the first bin begins.
        high: where the last one ends.
        unit: after the numbers at the ends.
        title: what it shows, for those who hear the page.
        size: of the bars, pixels.
        shaded: a range to mark, such as the window of a picture.
        ends: whether to write `low` and `high` below.
    """
    width, height = size
    values = np.sqrt(np.asarray(counts, dtype=np.float64))
    tall = height * values / (values.max() or 1.0)
    step = width / len(tall)
    path = f"M0 {height}" + "".join(
        f"V{height - bar:.1f}H{(i + 1) * step:.1f}" for i, bar in enumerate(tall)
    )
    band = ""
    if shaded is not None and high > low:
        left, right = (min(max((v - low) / (high - low), 0.0), 1.0) * width for v in shaded)
        band = (
            f'<rect class="band" x="{left:.1f}" y="0" width="{right - left:.1f}" '
            f'height="{height}"/>'
        )
    below = 15 if ends else 0
    words = (
        f'<text x="0" y="{height + 12}">{number(low)}</text>'
        f'<text x="{width}" y="{height + 12}" text-anchor="end">'
        f"{html.escape(f'{number(high)} {unit}'.strip())}</text>"
        if ends
        else ""
    )
    return (
        f'<svg class="chart" viewBox="0 0 {width} {height + below}" width="{width}" '
        f'height="{height + below}" role="img" aria-label="{html.escape(title)}">{band}'
        f'<path d="{path}V{height}Z"/>{words}</svg>'
    )


def differ(low: float, high: float) -> bool:
    """Whether there is room for bins between two numbers, beyond what rounding makes of one."""
    return high - low > 1e-6 * max(abs(low), abs(high))


def shares(parts: Sequence[tuple[str, int]], *, size: tuple[int, int] = (960, 16)) -> str:
    """One bar divided by counts; each part has the class of its name, and says its count."""
    width, height = size
    total = sum(count for _, count in parts) or 1
    x, bars = 0.0, []
    for name, count in parts:
        length = width * count / total
        told = html.escape(f"{name} {count:,}")
        bars.append(
            f'<rect class="{html.escape(name)}" x="{x:.1f}" y="0" width="{length:.1f}" '
            f'height="{height}"><title>{told}</title></rect>'
        )
        x += length
    label = html.escape(", ".join(f"{name} {count:,}" for name, count in parts))
    return (
        f'<svg class="chart shares" viewBox="0 0 {width} {height}" preserveAspectRatio="none" '
        f'height="{height}" role="img" aria-label="{label}">{"".join(bars)}</svg>'
    )


def number(value: float) -> str:
    """A number in four significant digits, with thousands separated."""
    rounded = float(f"{value:.4g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 1000 else f"{rounded:g}"
