"""Curves and dot plots of what was measured, as PNG, on white."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from medssl.demo.figures import PRETRAINED, SCRATCH, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Points = Sequence[tuple[float, float]]
_INK, _SOFT, _GRID = "#18222c", "#55636f", "#e3e8ec"


def pretraining_curve(points: Points, label: str) -> bytes:
    """The pretraining loss over steps, with its moving mean. PNG."""
    figure = _figure(9.0, 2.9)
    axes = _axes(figure, 1, 1, 1)
    steps, values = (np.array(column) for column in zip(*points, strict=True))
    axes.plot(steps, values, color=PRETRAINED, alpha=0.35, lw=1.0, label="logged steps")
    width = max(1, len(values) // 12)
    if width > 1:
        mean = np.convolve(values, np.ones(width) / width, mode="valid")
        axes.plot(steps[width - 1 :], mean, color=PRETRAINED, lw=2.0, label=f"mean of last {width}")
        axes.legend(frameon=False, fontsize=9)
    axes.set_xlabel("Step")
    axes.set_ylabel(label)
    axes.set_ylim(bottom=0)
    return png(figure)


def finetuning_curves(loss: Mapping[str, Points], dice: Mapping[str, Points]) -> bytes:
    """Training loss (left) and Dice of the validation patient (right) by run name. PNG."""
    figure = _figure(9.0, 3.1)
    for place, (title, lines) in enumerate(
        (("Training loss", loss), ("Mean Dice, validation patients", dice)), 1
    ):
        axes = _axes(figure, 1, 2, place)
        for (name, points), colour in zip(lines.items(), (SCRATCH, PRETRAINED), strict=False):
            if points:
                marker = "o" if place == 2 else None
                axes.plot(*zip(*points, strict=True), color=colour, lw=2, label=name, marker=marker)
        axes.set_title(title, fontsize=10.5, color=_INK, loc="left")
        axes.set_xlabel("Step")
        axes.set_ylim(0, 1 if place == 2 else None)
        if any(lines.values()):
            axes.legend(frameon=False, fontsize=9)
    return png(figure)


def paired_dots(
    organs: Sequence[str],
    scratch: Sequence[Sequence[float]],
    pretrained: Sequence[Sequence[float]],
) -> bytes:
    """Dice of each held-out patient by organ, both models, a line joining one patient's two. PNG.

    scratch, pretrained: one list per organ, one number in [0, 1] per patient, in one order.
    """
    figure = _figure(9.0, 0.55 * len(organs) + 1.1)
    axes = _axes(figure, 1, 1, 1)
    for row, (before, after) in enumerate(zip(scratch, pretrained, strict=True)):
        spread = np.linspace(-0.22, 0.22, len(before)) if len(before) > 1 else [0.0]
        for offset, a, b in zip(spread, before, after, strict=True):
            axes.plot([a, b], [row + offset] * 2, color="#c3ccd3", lw=1.3, zorder=1)
            axes.scatter(a, row + offset, s=34, color=SCRATCH, zorder=2)
            axes.scatter(b, row + offset, s=34, color=PRETRAINED, zorder=3)
    axes.scatter([], [], s=34, color=SCRATCH, label="from scratch")
    axes.scatter([], [], s=34, color=PRETRAINED, label="pretrained")
    axes.set_yticks(range(len(organs)), list(organs))
    axes.set_ylim(len(organs) - 0.5, -0.5)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("Dice")
    axes.legend(frameon=False, fontsize=9, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
    return png(figure)


def stage_bars(names: Sequence[str], seconds: Sequence[float]) -> bytes:
    """How long each stage took. PNG."""
    figure = _figure(9.0, 0.36 * len(names) + 0.7)
    axes = _axes(figure, 1, 1, 1)
    axes.barh(range(len(names)), list(seconds), color=PRETRAINED, height=0.6)
    for row, value in enumerate(seconds):
        axes.text(value, row, f" {value:.0f} s", va="center", fontsize=9, color=_SOFT)
    axes.set_yticks(range(len(names)), list(names))
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, max(seconds, default=1.0) * 1.12)
    axes.set_xlabel("Seconds")
    return png(figure)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def _axes(figure: Figure, rows: int, columns: int, place: int) -> Axes:
    axes = figure.add_subplot(rows, columns, place)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#b5bfc7")
    axes.tick_params(colors=_SOFT, labelsize=9)
    axes.grid(color=_GRID, lw=0.8)
    axes.set_axisbelow(True)
    axes.xaxis.label.set_color(_SOFT)
    axes.yaxis.label.set_color(_SOFT)
    return axes
