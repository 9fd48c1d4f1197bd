"""What an evaluation leaves behind: JSON, tables and a figure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from medssl.errors import MedsslError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = ("#1b6ca8", "#d1495b", "#66a182", "#8d6a9f")
_TITLES = {"linear": "linear probe", "knn": "20 nearest neighbours"}


def write_report(out: Path, summary: Mapping[str, Any], tables: Mapping[str, pd.DataFrame],
                 figure: Figure) -> None:  # fmt: skip
    """Write evaluation.json, one CSV per table and probes.png into a new folder.

    Raises:
        MedsslError: OUT_EXISTS.
    """
    if out.exists():
        raise MedsslError("OUT_EXISTS", "The output folder already exists", where=out.name)
    out.mkdir(parents=True)
    text = json.dumps(plain(summary), indent=2, allow_nan=False)
    (out / "evaluation.json").write_text(text + "\n", encoding="utf-8")
    for name, table in tables.items():
        table.to_csv(out / f"{name}.csv", index=False)
    figure.savefig(out / "probes.png", dpi=150)


def plain(value: Any) -> Any:
    """The same for JSON, which knows neither nan nor infinity: they become null."""
    if isinstance(value, pd.DataFrame):
        return plain(value.to_dict("records"))
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def probe_figure(table: pd.DataFrame, metric: str = "auroc") -> Figure:
    """The metric over the label fraction, one panel per probe: a point per seed, lines of means."""
    from matplotlib.figure import Figure

    probes = list(dict.fromkeys(table["probe"]))
    figure = Figure(figsize=(4.2 * len(probes), 3.4), layout="constrained")
    axes = figure.subplots(1, len(probes), sharey=True, squeeze=False)[0]
    for axis, probe in zip(axes, probes, strict=True):
        part = table[table["probe"] == probe]
        for i, arm in enumerate(dict.fromkeys(part["arm"])):
            of_arm = part[part["arm"] == arm]
            mean = of_arm.groupby("fraction")[metric].mean()
            colour = _COLOURS[i % len(_COLOURS)]
            axis.plot(mean.index, mean, color=colour, label=str(arm))
            axis.scatter(of_arm["fraction"], of_arm[metric], color=colour, s=12, alpha=0.6)
        axis.set_xscale("log")
        fractions = sorted(part["fraction"].unique())
        axis.set_xticks(fractions, [f"{100 * f:g} %" for f in fractions], minor=False)
        axis.set_xticks([], minor=True)
        axis.set_xlabel("labelled training subjects")
        axis.set_title(_TITLES.get(probe, probe))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel(f"test {metric.replace('_', ' ').replace('auroc', 'AUROC')}")
    lines, names = axes[0].get_legend_handles_labels()
    figure.legend(lines, names, loc="outside lower center", ncols=len(names), frameon=False)
    return figure
