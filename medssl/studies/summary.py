"""What the results of a comparison say: paired gains over the controls, with their intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from medssl.evaluate.stats import paired_interval, verdict
from medssl.studies.cells import FINETUNED, RANDOM, SCRATCH
from medssl.studies.measure import FEATURES, PRETRAINING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SMALLER_IS_BETTER = ("mae", "hd95_mm")
MAIN = ("dice", "auroc", "mae")  # one for each kind of task: what is printed and drawn

_KEYS = ["task", "readout", "labels", "metric", "encoder"]
_COLUMNS = [
    *_KEYS, "method", "value", "control", "control_value", "gain", "low", "high", "pairs",
    "better than control",
]  # fmt: skip
_COLOURS = ("#1b6ca8", "#d1495b", "#66a182", "#8d6a9f")


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Mean paired gain of every method over its control, with a 95 % t interval over seeds.

    Fine-tuned, the control is the same network from scratch; frozen, one with random weights. A
    gain is positive where the method is better, of errors and distances too.

    Args:
        table: columns of :data:`medssl.studies.cells.COLUMNS`.

    Returns:
        a row for each method and what it was measured on, of the seeds that both have.
    """
    lines = []
    table = table[~table["readout"].isin([FEATURES, PRETRAINING])]
    for keys, part in table.groupby(_KEYS, sort=False):
        named = dict(zip(_KEYS, keys, strict=True))
        control = SCRATCH if named["readout"] == FINETUNED else RANDOM
        wide = part.pivot(index="seed", columns="method", values="value")
        if control not in wide:
            continue
        sign = -1.0 if named["metric"] in SMALLER_IS_BETTER else 1.0
        for method in wide.columns.drop(control):
            pair = wide[[method, control]].dropna()
            if pair.empty:
                continue
            values = sign * pair.to_numpy()
            found = paired_interval(values[:, 0], values[:, 1])
            lines.append(
                named
                | {
                    "method": method,
                    "value": pair[method].mean(),
                    "control": control,
                    "control_value": pair[control].mean(),
                    "gain": found.mean,
                    "low": found.low,
                    "high": found.high,
                    "pairs": found.pairs,
                    "better than control": verdict(found),
                }
            )
    return pd.DataFrame(lines, columns=_COLUMNS)


def markdown(
    compared: pd.DataFrame,
    failures: Mapping[str, str] = {},
    left_out: Mapping[str, Mapping[str, str]] = {},
) -> str:
    """The main metrics as markdown tables, by method and in full; what is not there, and why."""
    lines = [
        *_overview(compared[compared["metric"].isin(MAIN)]),
        "| task | readout | labels | metric | encoder | method | control | method's |"
        " gain [95 % CI] | seeds | better than control |",
        "| --- " * 11 + "|",
    ]
    for row in compared[compared["metric"].isin(MAIN)].to_dict("records"):
        digits = _digits(row["metric"])
        low, gain, high = (f"{row[k]:+.{digits}f}" for k in ("low", "gain", "high"))
        lines.append(
            f"| {row['task']} | {row['readout']} | {row['labels']} | {row['metric']} |"
            f" {row['encoder']} | {row['method']} | {row['control_value']:.{digits}f} |"
            f" {row['value']:.{digits}f} | {gain} [{low}, {high}] | {row['pairs']} |"
            f" {row['better than control']} |"
        )
    lines.append("")
    lines += [f"- {name} ended with {code}." for name, code in failures.items()]
    for data, methods in left_out.items():
        lines += [f"- {method} is left out on {data}: {why}" for method, why in methods.items()]
    return "\n".join(lines).rstrip() + "\n"


def _overview(compared: pd.DataFrame) -> list[str]:
    """A table of each task: a line for each method, its gain at every readout and number of labels,
    bold where the interval lies on one side of 0."""
    lines = []
    for task, part in compared.groupby("task", sort=False):
        digits = _digits(str(part["metric"].iloc[0]))
        places = list(dict.fromkeys(zip(part["readout"], part["labels"], strict=True)))
        gains: dict[str, dict[tuple[str, str], str]] = {}
        for row in part.to_dict("records"):
            gain, told = f"{row['gain']:+.{digits}f}", row["low"] > 0 or row["high"] < 0
            own = gains.setdefault(f"{row['method']} ({row['encoder']})", {})
            own[row["readout"], row["labels"]] = f"**{gain}**" if told else gain
        headings = [f"{readout}, {labels}" for readout, labels in places]
        lines += [
            f"| {task}: gain, {part['metric'].iloc[0]} | " + " | ".join(headings) + " |",
            "| --- " * (1 + len(places)) + "|",
            *(
                f"| {name} | " + " | ".join(own.get(place, "") for place in places) + " |"
                for name, own in sorted(gains.items())
            ),
            "",
        ]
    return lines


def _digits(metric: str) -> int:
    return 0 if metric == "mae" else 3


def figure(compared: pd.DataFrame) -> Figure:
    """The gain over the control with its interval: a panel for each task and readout, a line for
    each method, a colour for each number of labels."""
    from matplotlib.figure import Figure

    shown = compared[compared["metric"].isin(MAIN)]
    panels = list(dict.fromkeys(zip(shown["task"], shown["readout"], strict=True)))
    columns = min(3, max(1, len(panels)))
    rows = max(1, -(-len(panels) // columns))
    tallest = max(1, shown.groupby(["method", "encoder"]).ngroups)
    plot = Figure(figsize=(4.6 * columns, rows * (1.3 + 0.32 * tallest)), layout="constrained")
    axes = plot.subplots(rows, columns, squeeze=False).flatten()
    for axis, (task, readout) in zip(axes, panels, strict=False):
        _panel(axis, shown[(shown["task"] == task) & (shown["readout"] == readout)])
        axis.set_title(f"{task}, {readout}", fontsize=9)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    return plot


def _panel(axis: Any, part: pd.DataFrame) -> None:
    names = sorted({f"{r.method} ({r.encoder})" for r in part.itertuples()}, reverse=True)
    labels = list(dict.fromkeys(part["labels"]))
    for i, label in enumerate(labels):
        some = part[part["labels"] == label]
        places = [
            names.index(f"{r.method} ({r.encoder})") + 0.22 * ((len(labels) - 1) / 2 - i)
            for r in some.itertuples()
        ]
        error = [some["gain"] - some["low"], some["high"] - some["gain"]]
        colour = _COLOURS[i % len(_COLOURS)]
        axis.errorbar(
            some["gain"], places, xerr=error, fmt="o", ms=4, capsize=2, color=colour, label=label
        )
    axis.axvline(0, color="#888888", linewidth=1)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    metric = {"auroc": "AUROC", "mae": "MAE, mm³", "dice": "Dice"}[str(part["metric"].iloc[0])]
    axis.set_xlabel(f"gain over {part['control'].iloc[0]}, {metric}", fontsize=8)
    axis.tick_params(axis="x", labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    beside = {"loc": "upper left", "bbox_to_anchor": (1, 1), "handlelength": 1}
    axis.legend(title="labels", fontsize=7, title_fontsize=7, frameon=False, **beside)
