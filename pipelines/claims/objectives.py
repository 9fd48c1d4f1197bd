"""Claim: masked pretraining favours segmentation, hybrid favours classification and regression.

Reads the results of `pipelines/compare_methods.py` and looks for the interaction of objective and
task. In each condition (task, labels, readout, encoder) the main metric is divided by its spread
over all methods and seeds, so that tasks count alike. The statistic of a seed is by how much masked
methods are ahead of hybrid ones in segmentation, plus by how much they are behind elsewhere.

    python pipelines/claims/objectives.py STUDY/results.csv OUT
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from pydantic import Field

from medssl.cli.ending import script
from medssl.config import StrictModel, load
from medssl.errors import MedsslError
from medssl.evaluate.stats import paired_interval
from medssl.studies.cells import RANDOM, SCRATCH
from medssl.studies.claims import Claim, Finding
from medssl.studies.summary import MAIN, SMALLER_IS_BETTER

NAME = "objectives"
KINDS = {"dice": "segmentation", "auroc": "classification", "mae": "regression"}
CONDITION = ["task", "labels", "readout", "metric", "encoder"]


class Settings(StrictModel):
    """Which methods are masked and which hybrid; those that the results do not have are ignored."""

    masked: list[str] = Field(default_factory=lambda: ["mae", "simmim", "gmml"])
    hybrid: list[str] = Field(default_factory=lambda: ["sit", "hybrid"])


def main(
    results: Annotated[Path, typer.Argument(help="results.csv of a comparison.")],
    out: Annotated[Path, typer.Argument(help="Where objectives.json goes.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value pairs.")] = None,
) -> None:
    """Test the interaction of objective and task."""
    settings = load(Settings, overrides=overrides or [])
    table = pd.read_csv(results, dtype={"labels": str})
    claim = tested(table, settings)
    claim.write(out / f"{NAME}.json")
    typer.echo(claim.text())


def advantages(table: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Masked minus hybrid, in spreads of the condition: columns seed, kind, condition, advantage.

    Raises:
        MedsslError: NOTHING_USABLE where no condition has both.
    """
    table = table[table["metric"].isin(MAIN) & ~table["method"].isin([RANDOM, SCRATCH])]
    rows = []
    for keys, part in table.groupby(CONDITION):
        named = dict(zip(CONDITION, keys, strict=True))
        wide = part.pivot(index="seed", columns="method", values="value")
        sides = [wide.columns.intersection(g) for g in (settings.masked, settings.hybrid)]
        spread = float(np.nanstd(wide.to_numpy()))
        if not spread or any(side.empty for side in sides):
            continue
        sign = -1 if named["metric"] in SMALLER_IS_BETTER else 1
        masked, hybrid = (wide[side].mean(axis=1, skipna=False) for side in sides)
        found = (sign * (masked - hybrid) / spread).dropna()
        condition = " ".join(str(named[k]) for k in ("task", "labels", "readout", "encoder"))
        rows += [
            {"seed": s, "kind": KINDS[named["metric"]], "condition": condition, "advantage": v}
            for s, v in found.items()
        ]
    if not rows:
        raise MedsslError("NOTHING_USABLE", "No task was done by a masked and a hybrid method")
    return pd.DataFrame(rows)


def tested(table: pd.DataFrame, settings: Settings) -> Claim:
    """The claim's verdict."""
    found = advantages(table, settings)
    by_kind = found.groupby(["seed", "kind"])["advantage"].mean().unstack().dropna()
    others = by_kind.columns.drop("segmentation", errors="ignore")
    if "segmentation" not in by_kind or others.empty:
        raise MedsslError("NOTHING_USABLE", "Segmentation and another kind of task are needed")
    segmentation = by_kind["segmentation"].to_numpy()
    elsewhere = by_kind[others].mean(axis=1).to_numpy()
    interaction = paired_interval(segmentation, elsewhere)
    findings = [Finding.over_seeds("interaction: segmentation - elsewhere, of masked", interaction)]
    zero = np.zeros(len(by_kind))
    for kind in by_kind.columns:
        sign, text = (1, "masked - hybrid") if kind == "segmentation" else (-1, "hybrid - masked")
        interval = paired_interval(sign * by_kind[kind].to_numpy(), zero)
        findings.append(Finding.over_seeds(f"{kind}: {text}", interval, decides=False))
    means = found.groupby(["kind", "condition"], as_index=False)["advantage"].mean()
    present = sorted(set(table["method"]) & {*settings.masked, *settings.hybrid})
    return Claim(
        NAME,
        "Masked pretraining favours segmentation, hybrid favours classification and regression",
        "FOMO25",
        "python pipelines/claims/objectives.py STUDY/results.csv OUT",
        f"Methods {', '.join(present)} in {len(means)} conditions of the comparison; differences"
        " in spreads (standard deviations over methods and seeds) of the condition.",
        findings,
        means.rename(columns={"advantage": "masked - hybrid"}).to_dict("records"),
    )


if __name__ == "__main__":
    script(main)
