"""Claim: DCL helps frozen features more than fine-tuning, and more at small batches.

Pretrains SimCLR and DCL on chest X-rays with a small and a large batch, at equal encoder passes,
and reads them frozen (kNN, linear probe) and fine-tuned with a tenth of the labels.

    python pipelines/claims/decoupled.py DATA OUT
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from pydantic import Field

from medssl.cli.common import StudyKey, preset
from medssl.cli.ending import script
from medssl.config import StrictModel, load
from medssl.evaluate.stats import paired_interval
from medssl.studies.cells import FINETUNED
from medssl.studies.claims import Claim, Finding
from medssl.studies.compare import comparison
from medssl.studies.settings import Study

NAME = "decoupled"
PLAIN, DECOUPLED = "simclr", "dcl"


class Settings(StrictModel):
    """``batches``: the small one, then the large one; ``labels``: the share of them."""

    folder: str
    batches: tuple[int, int]
    seeds: int = Field(3, ge=2)
    passes: int
    labels: float
    encoder: str
    encoder_options: dict[str, Any]
    pretrain: dict[str, Any]
    finetune: dict[str, Any]

    def study(self) -> Study:
        """Both methods, with each batch."""
        task = {"kind": "classification", "frozen": [self.labels], "finetuned": [self.labels]}
        data = {
            f"batch-{batch}": {
                "folder": self.folder,
                "encoders": {self.encoder: self.encoder_options},
                "passes": self.passes,
                "pretrain": {**self.pretrain, "batch_size": batch},
                "tasks": {f"batch {batch}": {**task, "finetune": self.finetune}},
            }
            for batch in self.batches
        }
        values = {"method": [PLAIN, DECOUPLED], "seeds": self.seeds, "data": data}
        return load(Study, values=values)


def main(
    data: Annotated[Path, typer.Argument(help="The folder that holds the data set's folder.")],
    out: Annotated[Path, typer.Argument(help="Where store, runs and decoupled.json go.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value pairs.")] = None,
    config: Annotated[Path, typer.Option(help="Preset or YAML file.")] = Path("claims/decoupled"),
    key_file: StudyKey = None,
) -> None:
    """Test where DCL helps."""
    settings = load(Settings, preset(config), overrides or [])
    found = comparison(settings.study(), data, out, key_file)
    found.run(typer.echo)
    claim = tested(found.records.table(), settings)
    claim.write(out / f"{NAME}.json")
    typer.echo(claim.text())


def gains(table: pd.DataFrame) -> pd.DataFrame:
    """AUROC of DCL minus that of SimCLR: index seed, columns (task, "frozen" or "fine-tuned")."""
    some = table[(table["metric"] == "auroc") & table["method"].isin([PLAIN, DECOUPLED])]
    read = some["readout"].where(some["readout"] == FINETUNED, "frozen")
    some = some.assign(read=read)
    # kNN and linear probe are both ways to read a frozen encoder, and count half each
    mean = some.groupby(["seed", "task", "read", "method"])["value"].mean().unstack()
    return (mean[DECOUPLED] - mean[PLAIN]).unstack(["task", "read"])


def tested(table: pd.DataFrame, settings: Settings) -> Claim:
    """The claim's verdict."""
    found = gains(table)
    small, large = (f"batch {batch}" for batch in settings.batches)
    frozen, tuned = (found.xs(read, axis=1, level="read") for read in ("frozen", FINETUNED))
    more = paired_interval(frozen.mean(axis=1).to_numpy(), tuned.mean(axis=1).to_numpy())
    smaller = paired_interval(frozen[small].to_numpy(), frozen[large].to_numpy())
    findings = [
        Finding.over_seeds("gain frozen - gain fine-tuned", more),
        Finding.over_seeds(f"gain frozen with {small} - with {large}", smaller),
    ]
    zero = np.zeros(len(found))
    rows = []
    for task, read in found.columns:
        interval = paired_interval(found[task, read].to_numpy(), zero)
        findings.append(Finding.over_seeds(f"gain {read}, {task}", interval, decides=False))
    for (task, readout, method), part in table[table["metric"] == "auroc"].groupby(
        ["task", "readout", "method"]
    ):
        mean = float(part["value"].mean())
        rows.append({"batch": task, "readout": readout, "method": method, "AUROC": mean})
    return Claim(
        NAME,
        "DCL helps frozen features more than fine-tuning, and more at small batches",
        "Yeh et al. 2022, sec. 4",
        f"python pipelines/claims/{NAME}.py DATA OUT",
        f"Chest X-rays, {settings.encoder}, {settings.passes} encoder passes, batches of"
        f" {settings.batches[0]} and {settings.batches[1]}, {100 * settings.labels:g} % of the"
        " labels; a gain is the AUROC of DCL minus that of SimCLR.",
        findings,
        rows,
    )


if __name__ == "__main__":
    script(main)
