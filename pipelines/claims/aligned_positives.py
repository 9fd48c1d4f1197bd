"""Claim: views of one anatomical place in two patients are better positives than views of random
places.

Pretrains Alice on the hippocampus in several arms that differ in their options alone: masked
modelling by itself, and with positives of other patients at random places, away from the place, at
the place by relative position or by an embedding of places, and with its local loss. Every arm, and
a network from scratch, is fine-tuned with few labelled subjects on paired seeds.

    python pipelines/claims/aligned_positives.py DATA OUT --key-file pipelines/public_data.key
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
import typer
from pydantic import Field, model_validator

from medssl.cli.common import StudyKey, preset
from medssl.cli.ending import script
from medssl.config import StrictModel, load
from medssl.evaluate.stats import paired_interval
from medssl.finetune import FinetuneConfig, finetune
from medssl.store import Store
from medssl.studies.cells import SCRATCH
from medssl.studies.claims import Claim, Finding
from medssl.studies.data import ready_store, study_split
from medssl.studies.runs import pretrained, same_study, set_aside, write_whole
from medssl.training.pretrain import PretrainConfig

NAME = "aligned_positives"
POOR = 0.55  # no more than one structure by itself can give, about
MIM, RANDOM, DISPLACED, ALIGNED, EMBEDDED, CASA = (
    "mim", "random", "displaced", "position", "embedding", "casa",
)  # fmt: skip


class Settings(StrictModel):
    """``arms`` are options of Alice, by name; ``labels`` numbers of labelled subjects, the first
    ``decisive`` of which decide. ``places`` pretrains the embedding of the arm that asks for one,
    on the same subjects. ``measured`` are the subjects that the runs are measured on: options are
    chosen with "validation", then "test" is measured once.
    """

    folder: str
    modality: str = "MR"
    label_names: dict[int, str] | None = None
    seeds: int = Field(3, ge=2)
    labels: list[int]
    decisive: int = Field(2, ge=1)
    measured: Literal["validation", "test"] = "test"
    pretrain: dict[str, Any]
    places: dict[str, Any] = Field(default_factory=dict)
    arms: dict[str, dict[str, Any]]
    finetune: FinetuneConfig

    @model_validator(mode="after")
    def _arms_of_the_claim(self) -> Settings:
        missing = {RANDOM, DISPLACED, ALIGNED} - set(self.arms)
        if missing:
            raise ValueError(f"the claim needs the arms {', '.join(sorted(missing))}")
        return self

    def pretraining(self, arm: str, seed: int, embedding: Path | None) -> PretrainConfig:
        """The pretraining of an arm."""
        options = {**self.pretrain.get("options", {}), **self.arms[arm]}
        if options.get("alignment") == EMBEDDED:
            options["embedding"] = str(embedding)
        values = {**self.pretrain, "method": "alice", "options": options, "seed": seed}
        return load(PretrainConfig, values=values)

    def finetuning(self, seed: int) -> FinetuneConfig:
        """A fine-tuning, the same of every arm."""
        spec = {key: self.pretrain[key] for key in ("encoder", "encoder_options", "spacing")}
        change = {"seed": seed, "label_seed": seed, "report": (self.measured,), **spec}
        return self.finetune.model_copy(update=change)


def main(
    data: Annotated[Path, typer.Argument(help="The folder that holds the data set's folder.")],
    out: Annotated[Path, typer.Argument(help="Where store, runs and the results go.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value pairs.")] = None,
    config: Annotated[Path, typer.Option(help="Preset or YAML file.")] = Path(f"claims/{NAME}"),
    key_file: StudyKey = None,
) -> None:
    """Test whether aligned positives beat random ones."""
    settings = load(Settings, preset(config), overrides or [])
    out.mkdir(parents=True, exist_ok=True)
    same_study(settings.model_dump_json(indent=2, exclude={"seeds"}), out)
    store = ready_store(
        data / settings.folder,
        out / "store",
        modality=settings.modality,
        label_names=settings.label_names,
        key_file=key_file,
    )
    rows: list[dict[str, Any]] = []
    for seed in range(settings.seeds):
        for arm in (SCRATCH, *settings.arms):
            rows += measured(store, settings, arm, seed, out)
            typer.echo(f"{arm}, seed {seed}: done")
    table = pd.DataFrame(rows)
    table.to_csv(out / "results.csv", index=False)
    claim = tested(table, settings)
    claim.write(out / f"{NAME}.json")
    typer.echo(claim.text())


def measured(
    store: Store, settings: Settings, arm: str, seed: int, out: Path
) -> list[dict[str, Any]]:
    """Dice of an arm at every number of labels, or what is on disk of it."""
    files = {n: out / "cells" / f"{arm}-{n}-{seed}.json" for n in settings.labels}
    rows = []
    for labels, file in files.items():
        if not file.exists():
            bundle = None if arm == SCRATCH else bundle_of(store, settings, arm, seed, out)
            folder = out / "runs" / file.stem
            set_aside(folder)
            found = finetune(
                "segmentation",
                store.path,
                folder,
                settings.finetuning(seed),
                init=bundle,
                labels=labels,
                split=study_split(store),
                tracking_folder=out,
            )
            # what is needed of it is in MLflow; checkpoints are large
            shutil.rmtree(folder)
            row = {"arm": arm, "labels": labels, "seed": seed}
            row["dice"] = found.metrics[f"{settings.measured}_dice"]
            write_whole(file, json.dumps(row))
        rows.append(json.loads(file.read_text(encoding="utf-8")))
    return rows


def bundle_of(store: Store, settings: Settings, arm: str, seed: int, out: Path) -> Path:
    """The bundle of an arm's pretraining, made where it is not there."""
    embedding = None
    if settings.arms[arm].get("alignment") == EMBEDDED:
        values = {**settings.pretrain, "options": {}, **settings.places, "seed": seed}
        places = load(PretrainConfig, values=values)
        embedding = pretrained(store.path, out / "pretrained" / f"places-{seed}", places, out)
    config = settings.pretraining(arm, seed, embedding)
    return pretrained(store.path, out / "pretrained" / f"{arm}-{seed}", config, out)


def difference(table: pd.DataFrame, a: str, b: str, labels: list[int]) -> Any:
    """The paired interval of an arm's Dice minus another's, over seeds; a seed's is the mean over
    the numbers of labels."""
    some = table[table["labels"].isin(labels)]
    wide = some.groupby(["seed", "arm"])["dice"].mean().unstack()
    return paired_interval(wide[a].to_numpy(), wide[b].to_numpy())


def tested(table: pd.DataFrame, settings: Settings) -> Claim:
    """The claim's verdict."""
    few = settings.labels[: settings.decisive]
    findings = []
    for labels in few:
        for other in (RANDOM, DISPLACED):
            found = difference(table, ALIGNED, other, [labels])
            text = f"Dice with {labels} labelled: aligned by position - {other}"
            findings.append(Finding.over_seeds(text, found))
    beside = [
        (ALIGNED, RANDOM), (ALIGNED, DISPLACED), (ALIGNED, MIM), (ALIGNED, SCRATCH),
        (EMBEDDED, RANDOM), (CASA, ALIGNED), (MIM, SCRATCH),
    ]  # fmt: skip
    there = set(table["arm"])
    means = [("mean of " + " and ".join(map(str, few)), few)]
    means += [(str(n), [n]) for n in settings.labels[settings.decisive :]]
    for words, labels in means:
        for a, b in beside:
            if {a, b} <= there:
                found = difference(table, a, b, labels)
                text = f"Dice with {words} labelled: {a} - {b}"
                findings.append(Finding.over_seeds(text, found, decides=False))
    wide = table.groupby(["arm", "labels"])["dice"].mean().unstack()
    rows = [
        {"arm": arm, **{f"Dice, {n} labelled": float(wide.loc[arm, n]) for n in settings.labels}}
        for arm in (SCRATCH, *settings.arms)
        if arm in there
    ]
    return Claim(
        NAME,
        "Views of one anatomical place in two patients are better positives than views of random"
        " places",
        "Jiang et al. 2023, Alice",
        f"python pipelines/claims/{NAME}.py DATA OUT --key-file pipelines/public_data.key",
        described(settings),
        findings,
        rows,
        notes(table, settings),
    )


def described(settings: Settings) -> str:
    """What was done, in a sentence or two."""
    asked = settings.pretrain
    size = asked["options"]["view_size"]
    return (
        f"Hippocampus, U-Net of widths {asked['encoder_options']['widths']}; {asked['steps']} steps"
        f" of {asked['batch_size']} pairs of views of {size} voxels in crops of"
        f" {asked['patch_size']}, in every arm; then {settings.finetune.steps} steps of"
        " segmentation from the encoder of each, and from scratch. Dice of the"
        f" {settings.measured} subjects, mean of both structures."
    )


def notes(table: pd.DataFrame, settings: Settings) -> list[str]:
    """What this test cannot say."""
    poor = table[table["dice"] < POOR]
    whose = ", ".join(f"{arm} {n}" for arm, n in poor["arm"].value_counts().items())
    told = f" ({whose})" if whose else ""
    return [
        "These volumes are cut around the hippocampus and so roughly registered already: a random"
        " place is never far off, and a null here is weak evidence. The displaced arm is at least"
        " half a view away.",
        "Arms have the same number of steps and of the student's views; masked modelling alone"
        " needs no teacher and costs less.",
        f"{len(poor)} of {len(table)} fine-tunings ended with a Dice below {POOR}, before they told"
        f" the two structures apart{told}: a difference to these arms is of how soon a network"
        " learns.",
    ]


if __name__ == "__main__":
    script(main)
