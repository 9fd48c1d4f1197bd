"""Claim: global and local contrast helps segmentation with few labels, for its partitions' sake.

Pretrains on 3D crops of hippocampi that are short along the long axis, which is divided into
partitions, with SimCLR, the global loss on views alone (G^D-), global and local contrast (G^D and
L^R), and the same with partitions by chance. Each is fine-tuned with few and more labelled
subjects, beside scratch, on paired seeds; Dice is of whole volumes of the test subjects.

    python pipelines/claims/global_local.py DATA OUT
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from pydantic import Field

from medssl.cli.common import StudyKey, preset
from medssl.cli.ending import script
from medssl.config import StrictModel, load
from medssl.evaluate.stats import paired_interval
from medssl.studies.cells import FINETUNED, SCRATCH, amount
from medssl.studies.claims import Claim, Finding
from medssl.studies.compare import comparison
from medssl.studies.settings import Study

NAME = "global_local"
PLAIN, VIEWS, PERMUTED = "simclr", "views", "permuted"
ARMS: dict[str, dict[str, Any]] = {
    PLAIN: {},
    VIEWS: {"method": NAME, "options": {"positives": "views", "decoder_blocks": 0}},
    NAME: {"method": NAME},
    PERMUTED: {"method": NAME, "options": {"permute_partitions": True}},
}
TOLD = {PLAIN: "simclr", VIEWS: "G^D-", NAME: "G^D + L^R", PERMUTED: "permuted", SCRATCH: SCRATCH}


class Settings(StrictModel):
    """``few`` and ``many``: numbers of labelled subjects; ``options`` of the method in all its
    arms; ``passes`` of the encoder in each pretraining."""

    folder: str
    label_names: dict[int, str]
    seeds: int = Field(3, ge=2)
    few: list[int] = Field(min_length=1)
    many: int
    passes: int
    encoder: str
    encoder_options: dict[str, Any]
    pretrain: dict[str, Any]
    options: dict[str, Any]
    finetune: dict[str, Any]

    def study(self) -> Study:
        """All arms on one data set."""
        arms = {
            name: {**arm, "options": {**self.options, **arm.get("options", {})}} if arm else {}
            for name, arm in ARMS.items()
        }
        labels = [*self.few, self.many]
        data = {
            "folder": self.folder,
            "modality": "MR",
            "label_names": self.label_names,
            "encoders": {self.encoder: self.encoder_options},
            "passes": self.passes,
            "pretrain": self.pretrain,
            "methods": arms,
            "tasks": {
                self.folder: {
                    "kind": "segmentation",
                    "finetuned": labels,
                    "finetune": self.finetune,
                }
            },
        }
        values = {"method": list(ARMS), "seeds": self.seeds, "data": {self.folder: data}}
        return load(Study, values=values)


def main(
    data: Annotated[Path, typer.Argument(help="The folder that holds the data set's folder.")],
    out: Annotated[Path, typer.Argument(help="Where store, runs and global_local.json go.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value pairs.")] = None,
    config: Annotated[Path, typer.Option(help="Preset or YAML file.")] = Path(f"claims/{NAME}"),
    key_file: StudyKey = None,
) -> None:
    """Test whether partitions help segmentation with few labels."""
    settings = load(Settings, preset(config), overrides or [])
    found = comparison(settings.study(), data, out, key_file)
    found.run(typer.echo)
    table = found.records.table()
    table.to_csv(out / "results.csv", index=False)
    claim = tested(table, settings)
    claim.write(out / f"{NAME}.json")
    typer.echo(claim.text())


def dice_of(table: pd.DataFrame) -> pd.DataFrame:
    """Mean Dice of the test volumes: index seed, columns (labels, arm)."""
    some = table[(table["metric"] == "dice") & (table["readout"] == FINETUNED)]
    return some.pivot(index="seed", columns=["labels", "method"], values="value").dropna()


def tested(table: pd.DataFrame, settings: Settings) -> Claim:
    """The claim's verdict: all that decide must be above 0."""
    dice = dice_of(table)
    few, many = [amount(n) for n in settings.few], amount(settings.many)
    at_few = " and ".join(few)

    def mean(arm: str, labels: list[str]) -> pd.Series:
        return dice[[(n, arm) for n in labels]].mean(axis=1)

    def gain(over: str, labels: list[str]) -> pd.Series:
        return mean(NAME, labels) - mean(over, labels)

    def finding(text: str, differences: pd.Series, decides: bool = False) -> Finding:
        interval = paired_interval(differences.to_numpy(), 0 * differences.to_numpy())
        return Finding.over_seeds(text, interval, decides=decides)

    findings = [
        finding(f"gain over {TOLD[arm]}, {at_few} labelled", gain(arm, few), True)
        for arm in (SCRATCH, PLAIN)
    ]
    shrinks = gain(SCRATCH, few) - gain(SCRATCH, [many])
    findings.append(finding(f"gain over scratch, {at_few} - {many} labelled", shrinks, True))
    text = f"gain over permuted partitions, {at_few} labelled"
    findings.append(finding(text, gain(PERMUTED, few), True))
    for arm in (SCRATCH, PLAIN, PERMUTED, VIEWS):
        findings += [
            finding(f"gain over {TOLD[arm]}, {n} labelled", gain(arm, [n])) for n in [*few, many]
        ]
    rows = [
        {"arm": TOLD[arm], **{f"Dice, {n} labelled": float(dice[n, arm].mean()) for n in labels}}
        for labels in [[*few, many]]
        for arm in (SCRATCH, *ARMS)
    ]
    steps, batch = settings.finetune["steps"], settings.finetune["batch_size"]
    size = "x".join(map(str, settings.pretrain["patch_size"]))
    return Claim(
        NAME,
        "Global and local contrast over partitions raises Dice with few labels",
        "Chaitanya et al. 2020",
        f"python pipelines/claims/{NAME}.py DATA OUT",
        f"Hippocampus, MR; crops of {size} voxels of 1 mm, {settings.options['partitions']}"
        f" partitions from back to front, {settings.encoder}, {settings.passes} encoder passes;"
        f" fine-tuned by {steps} steps of {batch}. Dice is the mean over both structures of the"
        " test subjects' volumes; a gain is that of G^D + L^R minus the other's, averaged where two"
        " numbers of labelled subjects are named.",
        findings,
        rows,
        [
            "The paper works on 2D slices; this is in 3D, with crops short along the axis, as"
            " fine-tuning here segments volumes.",
            "The paper trains encoder and decoder one after the other, this in one run.",
        ],
    )


if __name__ == "__main__":
    script(main)
