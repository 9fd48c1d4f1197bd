"""Claim: mixing samples keeps Barlow Twins from overfitting a small set.

Pretrains Barlow Twins and Mixed Barlow Twins on a few hundred chest X-rays for many epochs, and
every so often classifies other training subjects by their nearest neighbours among these. The
statistic is the drop from the best of these measurements to the last. The test subjects are looked
at once, at the end, and decide nothing. A run that was stopped is done again from its start.

    python pipelines/claims/mixing.py DATA OUT
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from pydantic import Field

from medssl import tracking
from medssl.cli.common import StudyKey, preset
from medssl.cli.ending import script
from medssl.config import StrictModel, load
from medssl.evaluate.features import pooled_features
from medssl.evaluate.probing import Rows, probe_metrics
from medssl.evaluate.stats import paired_interval
from medssl.evaluate.targets import class_targets
from medssl.finetune import FinetuneConfig
from medssl.finetune.config import architecture
from medssl.store import Store
from medssl.store.splits import choose_subjects
from medssl.studies.claims import Claim, Finding
from medssl.studies.data import ready_store, study_split
from medssl.studies.runs import same_study, set_aside, write_whole
from medssl.training.loop import fit
from medssl.training.prepare import prepare
from medssl.training.pretrain import PretrainConfig, resolve

NAME = "mixing"
EXPERIMENT = "medssl-claims"


class Settings(StrictModel):
    """``methods``: plain, then mixed; ``images`` training subjects, ``validation`` others of the
    training split; ``every`` how many steps the validation subjects are classified."""

    folder: str
    methods: tuple[str, str]
    images: int = Field(ge=2)
    validation: int = Field(ge=2)
    every: int = Field(ge=1)
    seeds: int = Field(3, ge=2)
    pretrain: dict[str, Any]


def main(
    data: Annotated[Path, typer.Argument(help="The folder that holds the data set's folder.")],
    out: Annotated[Path, typer.Argument(help="Where store, runs and mixing.json go.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value pairs.")] = None,
    config: Annotated[Path, typer.Option(help="Preset or YAML file.")] = Path("claims/mixing"),
    key_file: StudyKey = None,
) -> None:
    """Test whether mixing keeps what was learned."""
    settings = load(Settings, preset(config), overrides or [])
    out.mkdir(parents=True, exist_ok=True)
    same_study(settings.model_dump_json(indent=2, exclude={"seeds"}), out)
    store = ready_store(data / settings.folder, out / "store", key_file=key_file)
    rows: list[dict[str, Any]] = []
    for seed in range(settings.seeds):
        for method in settings.methods:
            rows += followed(store, settings, method, seed, out)
            typer.echo(f"{method}, seed {seed}: done")
    table = pd.DataFrame(rows)
    table.to_csv(out / "curves.csv", index=False)
    claim = tested(table, settings)
    claim.write(out / f"{NAME}.json")
    typer.echo(claim.text())


def chosen_rows(store: Store, settings: Settings, seed: int) -> tuple[list[str], dict[str, Rows]]:
    """Volumes with a class, and their rows: those pretrained on as "train", and as "test" those
    that are classified, the "validation" subjects while training and the "test" subjects last."""
    _, classes, targets = class_targets(store, None)
    subjects = [store[v].subject_id for v in targets]
    split = study_split(store)
    pool = [s for s in subjects if split[s] == "train"]
    order = choose_subjects(pool, settings.images + settings.validation, seed)
    train, validation = set(order[: settings.images]), set(order[settings.images :])
    labels = np.array(list(targets.values()), np.int64)
    found = {}
    for name in ("validation", "test"):
        side = [
            "train" if s in train
            else "test" if (s in validation if name == "validation" else split[s] == "test")
            else ""
            for s in subjects
        ]  # fmt: skip
        found[name] = Rows(labels, subjects, np.array(side), classes)
    return list(targets), found


def followed(
    store: Store, settings: Settings, method: str, seed: int, out: Path
) -> list[dict[str, Any]]:
    """AUROC of nearest neighbours along one pretraining, or what is on disk of it."""
    file = out / "curves" / f"{method}-{seed}.json"
    if file.exists():
        return json.loads(file.read_text(encoding="utf-8"))
    ids, sides = chosen_rows(store, settings, seed)
    folder = out / "runs" / f"{method}-{seed}"
    set_aside(folder)
    values = {**settings.pretrain, "method": method, "seed": seed}
    asked = load(PretrainConfig, values={"checkpoint_every": 10**6, **values})
    asked, trained = resolve(store, asked, sides["validation"].subjects("train"))
    prepared = prepare(store, asked, trained, folder)
    tuned = FinetuneConfig(patch_size=asked.patch_size, intensity=asked.intensity)
    _, contract = architecture(store, trained, tuned, None)
    rows: list[dict[str, Any]] = []

    def measure(step: int, name: str) -> dict[str, float]:
        side = sides[name]
        used = np.flatnonzero(side.split != "")
        some = Rows(
            side.labels[used], [side.subject_ids[i] for i in used], side.split[used], side.classes
        )
        wanted = [ids[i] for i in used]
        encoder = prepared.task.method.encoder
        features = pooled_features(encoder, store, wanted, contract, device=asked.device)
        where = some.where("train")
        found = probe_metrics("knn", features.values.numpy(), some, where, where[:0])
        line = {"method": method, "seed": seed, "step": step, "on": name, "auroc": found["auroc"]}
        rows.append(line)
        return {f"{name}_knn_auroc": found["auroc"]}

    def after_step(step: int, _: Any) -> dict[str, float] | None:
        due = step % settings.every == 0 or step == asked.steps
        return measure(step, "validation") if due else None

    folder.mkdir(parents=True)
    with tracking.run(EXPERIMENT, f"{NAME}-{method}-{seed}", out) as run:
        run.log_config(asked.model_dump(mode="json"))
        fit(prepared.task, prepared.source, asked, folder, run, after_step=after_step)
        run.log_metrics(measure(asked.steps, "test"), asked.steps)
    write_whole(file, json.dumps(rows, indent=1))
    return rows


def tested(table: pd.DataFrame, settings: Settings) -> Claim:
    """The claim's verdict."""
    plain, mixed = settings.methods
    curves = table[table["on"] == "validation"]
    peak = curves.groupby(["seed", "method"])["auroc"].max().unstack()
    last = curves[curves["step"] == curves["step"].max()].set_index(["seed", "method"])["auroc"]
    final = last.unstack()
    drop = peak - final
    test = table[table["on"] == "test"].pivot(index="seed", columns="method", values="auroc")
    findings = [
        Finding.over_seeds(
            f"drop of {plain} - drop of {mixed}",
            paired_interval(drop[plain].to_numpy(), drop[mixed].to_numpy()),
        )
    ]
    for name, part in (("peak", peak), ("final", final), ("final, on the test subjects", test)):
        found = paired_interval(part[mixed].to_numpy(), part[plain].to_numpy())
        text = f"{name}: {mixed} - {plain}"
        findings.append(Finding.over_seeds(text, found, decides=False))
    rows = [
        {"method": m, "peak": float(peak[m].mean()), "final": float(final[m].mean()),
         "drop": float(drop[m].mean()), "test": float(test[m].mean())}
        for m in settings.methods
    ]  # fmt: skip
    steps, batch = settings.pretrain["steps"], settings.pretrain["batch_size"]
    return Claim(
        NAME,
        "Mixing samples keeps Barlow Twins from overfitting a small set",
        "Bandara et al. 2023",
        f"python pipelines/claims/{NAME}.py DATA OUT",
        f"{settings.images} chest X-rays, {steps} steps of {batch}"
        f" ({steps * batch / settings.images:.0f} epochs), AUROC of 20 nearest neighbours on"
        f" {settings.validation} other training subjects every {settings.every} steps; the drop is"
        " from the best of them to the last.",
        findings,
        rows,
        ["The peak is chosen on the subjects that the drop is measured on, in both arms alike."],
    )


if __name__ == "__main__":
    script(main)
