"""Does pretraining on my data help a classifier with few labels?

Ingests pictures with classes (a MedMNIST ``.npz``), pretrains SimCLR and a masked autoencoder on
the images of the training subjects, and probes the frozen encoders with 1, 10 and 100 % of the
labels, against the same networks with random weights. A seed stands for a pretraining, a random
network and a draw of labelled subjects, so that the arms are pairs. The archive's validation split
is the test set where it has no other: nothing is chosen on it; a tenth of the training subjects
validate. A run that was stopped goes on where it was.

    python pipelines/classification_probe.py PICTURES OUT --config classification_probe/cpu
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from pydantic import Field

from medssl import tracking
from medssl.bundle import Bundle
from medssl.cli.common import StudyKey, preset
from medssl.cli.ending import script
from medssl.config import StrictModel, load
from medssl.evaluate.classification import METRICS
from medssl.evaluate.features import pooled_features, random_encoder
from medssl.evaluate.probing import Rows, difference_table, probe_table
from medssl.evaluate.rank import rank_me
from medssl.evaluate.report import probe_figure
from medssl.evaluate.run import FRACTIONS, count_seen
from medssl.evaluate.targets import class_targets
from medssl.store import Store
from medssl.studies.data import ready_store, study_split
from medssl.studies.runs import pretrained
from medssl.training.pretrain import PretrainConfig

EXPERIMENT = "medssl-classification-probe"


class Study(StrictModel):
    """``methods`` are the pretrainings to compare, by the name they have in the tables; ``seeds``
    of each; ``validation`` the share of the training subjects that validate."""

    methods: dict[str, PretrainConfig]
    label: str | None = None
    fractions: list[float] = Field(default_factory=lambda: list(FRACTIONS))
    seeds: int = Field(3, ge=2)
    validation: float = Field(0.1, gt=0, lt=1)


def main(
    pictures: Annotated[Path, typer.Argument(help="A MedMNIST .npz, or a folder with one.")],
    out: Annotated[Path, typer.Argument(help="Where store, runs, CSV and figure go.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value pairs.")] = None,
    config: Annotated[Path, typer.Option(help="Preset or YAML file.")] = Path(
        "classification_probe/cpu"
    ),
    key_file: StudyKey = None,
) -> None:
    """Probe pretrained encoders at several label fractions, against random weights."""
    study = load(Study, preset(config), overrides or [])
    out.mkdir(parents=True, exist_ok=True)
    store = ready_store(pictures, out / "store", key_file=key_file)
    rows, volume_ids = labelled_rows(store, study)
    arms: dict[str, list[np.ndarray]] = {}
    controls: dict[str, str] = {}
    for name, settings in study.methods.items():
        controls[name] = f"random {settings.encoder} of {name}"
        arms |= {name: [], controls[name]: []}
        for seed in range(study.seeds):
            folder = out / "pretrained" / f"{name}-{seed}"
            seeded = settings.model_copy(update={"seed": seed})
            bundle = Bundle.load(pretrained(store.path, folder, seeded, out))
            bundle = bundle.for_dims(store[volume_ids[0]].dims)
            count_seen(bundle, rows.subjects("test"))
            random = random_encoder(bundle.spec.architecture, seed)
            for arm, encoder in ((name, bundle.model().encoder), (controls[name], random)):
                found = pooled_features(encoder, store, volume_ids, bundle.spec.contract)
                arms[arm].append(found.values.numpy())
    table = probe_table(arms, rows, study.fractions, study.seeds)
    found = summary(table, arms, controls)
    report(study, rows, table, found, out)


def labelled_rows(store: Store, study: Study) -> tuple[Rows, list[str]]:
    """Class, subject and split of every labelled picture, and their volume ids."""
    _, classes, targets = class_targets(store, study.label)
    split = study_split(store, study.validation)
    subjects = [store[volume_id].subject_id for volume_id in targets]
    labels = np.array(list(targets.values()), np.int64)
    return Rows(labels, subjects, np.array([split[s] for s in subjects]), classes), list(targets)


def summary(
    table: pd.DataFrame, arms: dict[str, list[np.ndarray]], controls: dict[str, str]
) -> pd.DataFrame:
    """Per method, probe, fraction and metric: means, the paired difference over seeds, RankMe."""
    import torch

    means = table.groupby(["arm", "probe", "fraction"])[list(METRICS)].mean()
    ranks = {
        arm: np.mean([rank_me(torch.from_numpy(values)) for values in features])
        for arm, features in arms.items()
    }
    parts = []
    for arm, control in controls.items():
        part = difference_table(table, arm, control).rename(columns={"mean": "difference"})
        for column, name in (("pretrained", arm), ("random", control)):
            part[column] = [
                means.loc[(name, row.probe, row.fraction), row.metric] for row in part.itertuples()
            ]
            part[f"{column}_rankme"] = ranks[name]
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def report(study: Study, rows: Rows, table: pd.DataFrame, found: pd.DataFrame, out: Path) -> None:
    """Write and log the tables as CSV, the AUROC as markdown and the figure; print it."""
    table.to_csv(out / "probes.csv", index=False)
    found.to_csv(out / "summary.csv", index=False)
    sizes = ", ".join(f"{len(rows.subjects(s))} {s}" for s in ("train", "validation", "test"))
    text = f"Subjects: {sizes}; classes: {', '.join(rows.classes)}.\n\n" + markdown(found)
    (out / "summary.md").write_text(text, encoding="utf-8")
    typer.echo(text)
    plot = probe_figure(table)
    plot.savefig(out / "classification_probe.png", dpi=150)
    files = ("probes.csv", "summary.csv", "summary.md", "classification_probe.png")
    with tracking.run(EXPERIMENT, "summary", out) as run:
        run.log_config(study.model_dump(mode="json"))
        for name in files:
            run.log_file(out / name)
        for row in found.to_dict("records"):
            key = f"{row['arm']}_{row['probe']}_{100 * row['fraction']:g}pct_{row['metric']}"
            run.log_metrics({key: row["pretrained"], f"{key}_gain": row["difference"]})


def markdown(found: pd.DataFrame, metrics: Sequence[str] = ("auroc",)) -> str:
    """The summary as a markdown table."""
    lines = [
        "| method | probe | labels | metric | random | pretrained | difference [95 % CI] | seeds |"
        " better than random |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in found[found["metric"].isin(metrics)].to_dict("records"):
        interval = f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
        lines.append(
            f"| {row['arm']} | {row['probe']} | {100 * row['fraction']:g} % | {row['metric']} |"
            f" {row['random']:.3f} | {row['pretrained']:.3f} | {interval} | {row['pairs']} |"
            f" {row['verdict']} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    script(main)
