"""Does pretraining on my data help with few labels?

Ingests a labelled folder (the layout of ``images/``, ``labels/``, ``subjects.csv``), pretrains on
the images of the training subjects, fine-tunes segmentation with few and many labelled training
subjects from scratch and from the pretrained encoder, on paired seeds, and tests every model on
whole volumes of the same held-out subjects. A run that was stopped goes on where it was.

    python pipelines/label_efficiency.py IMAGES OUT --config label_efficiency/cpu
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal

import matplotlib
import pandas as pd
import typer
from pydantic import Field

from medssl import tracking
from medssl.cli.common import StudyKey, preset
from medssl.cli.ending import script
from medssl.config import StrictModel, load
from medssl.evaluate.stats import paired_interval, verdict
from medssl.finetune import FinetuneConfig, finetune
from medssl.ingest.run import ingest
from medssl.progress import track
from medssl.store import Store
from medssl.studies.runs import same_study, set_aside
from medssl.training.pretrain import PretrainConfig, pretrain

METRICS = ("dice", "nsd", "hd95_mm")


class Study(StrictModel):
    """``labels``: numbers of labelled training subjects, 0 for all; ``seeds`` for each of them.

    A seed decides which subjects are labelled, the order and augmentation of their crops, and the
    decoder's first weights; it is shared by the two arms, which makes them pairs. ``steps_all``
    are the steps with all labels, where there is more to learn. ``measured`` are the subjects the
    runs are measured on: choose options with "validation", then measure once with "test".
    """

    modality: str = "MR"
    label_names: dict[int, str] | None = None
    labels: list[int] = Field(default_factory=lambda: [1, 2, 9, 0])
    seeds: int = Field(3, ge=2)
    seeds_all: int = Field(2, ge=1)
    steps_all: int = Field(600, ge=1)
    measured: Literal["validation", "test"] = "test"
    pretrain: PretrainConfig = PretrainConfig()
    finetune: FinetuneConfig = FinetuneConfig()


def main(
    images: Annotated[Path, typer.Argument(help="A folder with images, labels and subjects.csv.")],
    out: Annotated[Path, typer.Argument(help="Where store, runs, CSV and figure go.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value pairs.")] = None,
    config: Annotated[Path, typer.Option(help="Preset or YAML file.")] = Path(
        "label_efficiency/cpu"
    ),
    key_file: StudyKey = None,
) -> None:
    """Measure scratch against pretrained at several numbers of labels."""
    study = load(Study, preset(config), overrides or [])
    out.mkdir(parents=True, exist_ok=True)
    same_study(study.model_dump_json(indent=2), out)
    store = out / "store"
    if not store.exists():
        ingest(
            images,
            store,
            modality=study.modality,
            label_names=study.label_names,
            key_file=key_file,
        )
    bundle = out / "pretrained" / "bundle"
    if not bundle.exists():
        started = (out / "pretrained" / "checkpoints").exists()
        pretrain(store, out / "pretrained", study.pretrain, resume=started)
    jobs = [
        (labels, seed, arm)
        for labels in study.labels
        for seed in range(study.seeds if labels else study.seeds_all)
        for arm in ("scratch", "pretrained")
    ]
    rows: list[dict[str, Any]] = []
    for labels, seed, arm in track(jobs, "label efficiency"):
        rows += one_run(study, store, bundle if arm == "pretrained" else None, out, labels, seed)
    table = pd.DataFrame(rows)
    table.to_csv(out / "label_efficiency.csv", index=False)
    report(table, out)


def one_run(
    study: Study, store: Path, bundle: Path | None, out: Path, labels: int, seed: int
) -> list[dict[str, Any]]:
    """One fine-tuning, or what is on disk of it; one row per test volume and label."""
    arm = "pretrained" if bundle else "scratch"
    folder = out / "runs" / f"{labels or 'all'}-{seed}-{arm}"
    if not (folder / "metrics.json").exists():
        set_aside(folder)
        change: dict[str, Any] = {"seed": seed, "label_seed": seed, "report": (study.measured,)}
        if not labels:
            change["steps"] = study.steps_all
        if bundle is None:
            change |= {
                "encoder": study.pretrain.encoder,
                "encoder_options": study.pretrain.encoder_options,
            }
        settings = study.finetune.model_copy(update=change)
        finetune(
            "segmentation",
            store,
            folder,
            settings,
            init=bundle,
            labels=labels or None,
            tracking_folder=out,
        )
    cases = pd.read_csv(folder / "cases.csv")
    return [
        {"labels": labels, "seed": seed, "arm": arm, **row}
        for row in cases.drop(columns="split").to_dict("records")
    ]


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Mean per arm over subjects and seeds, and the paired difference with its 95 % interval.

    The unit of the interval is the seed: pairs are (seed, subject, label), the difference is
    averaged within a seed, and the t interval is over seeds.
    """
    keys = ["labels", "seed", "label", "subject_id"]
    mean = table.groupby([*keys, "arm"], as_index=False)[list(METRICS)].mean()
    rows = []
    # 0 stands for all labels, and comes last
    for labels, part in sorted(mean.groupby("labels"), key=lambda group: group[0] or math.inf):
        for label in [*sorted(part["label"].unique()), "mean"]:
            some = part if label == "mean" else part[part["label"] == label]
            for metric in METRICS:
                wide = some.pivot_table(index=keys[1:], columns="arm", values=metric).dropna()
                interval = paired_interval(
                    wide["pretrained"].to_numpy(),
                    wide["scratch"].to_numpy(),
                    groups=wide.index.get_level_values("seed").tolist(),
                )
                sign = -1 if metric == "hd95_mm" else 1
                bounds = sorted((sign * interval.low, sign * interval.high))
                rows.append(
                    {
                        "labels": labels or "all",
                        "label": label,
                        "metric": metric,
                        "scratch": wide["scratch"].mean(),
                        "pretrained": wide["pretrained"].mean(),
                        "difference": interval.mean,
                        "low": interval.low,
                        "high": interval.high,
                        "seeds": interval.units,
                        "pretrained better": verdict((bounds[0], bounds[1])),
                    }
                )
    return pd.DataFrame(rows)


def report(table: pd.DataFrame, out: Path) -> None:
    """Write and log the summary as CSV, as a markdown table and as a figure; print it."""
    found = summary(table)
    found.to_csv(out / "summary.csv", index=False)
    text = markdown(found)
    (out / "summary.md").write_text(text, encoding="utf-8")
    typer.echo(text)
    store = Store.open(out / "store")
    cases = f"{table['subject_id'].nunique()} subjects, {table['volume_id'].nunique()} volumes"
    typer.echo(f"Measured on {cases}; store {store.fingerprint()[:12]}")
    figure(found).savefig(out / "label_efficiency.png", dpi=150)
    with tracking.run("medssl-label-efficiency", "summary", out) as run:
        for name in ("label_efficiency.csv", "summary.csv", "summary.md", "label_efficiency.png"):
            run.log_file(out / name)
        dice = found[(found["metric"] == "dice") & (found["label"] == "mean")]
        for row in dice.to_dict("records"):
            run.log_metrics(
                {f"dice_{a}_{row['labels']}": row[a] for a in ("scratch", "pretrained")}
            )
    (out / "done.json").write_text(json.dumps({"rows": len(table)}), encoding="utf-8")


def markdown(found: pd.DataFrame) -> str:
    """The summary as a markdown table."""
    lines = [
        "| labelled subjects | structure | metric | scratch | pretrained | difference [95 % CI] |"
        " seeds | pretrained better |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in found.to_dict("records"):
        interval = f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
        lines.append(
            f"| {row['labels']} | {row['label']} | {row['metric']} | {row['scratch']:.3f} |"
            f" {row['pretrained']:.3f} | {interval} | {row['seeds']} | {row['pretrained better']} |"
        )
    return "\n".join(lines) + "\n"


def figure(found: pd.DataFrame) -> Any:
    """Dice of both arms over the number of labels, and the paired difference with its interval."""
    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    dice = found[(found["metric"] == "dice") & (found["label"] == "mean")]
    names = [str(n) for n in dice["labels"]]
    plot = Figure(figsize=(8, 3.4), layout="constrained")
    left, right = plot.subplots(1, 2)
    for arm, colour in (("scratch", "#888888"), ("pretrained", "#1f6fb2")):
        left.plot(names, dice[arm], "o-", color=colour, label=arm)
    left.set_ylabel("mean Dice")
    left.legend(frameon=False)
    error = [dice["difference"] - dice["low"], dice["high"] - dice["difference"]]
    right.errorbar(names, dice["difference"], yerr=error, fmt="o", capsize=4, color="#1f6fb2")
    right.axhline(0, color="#888888", linewidth=1)
    right.set_ylabel("pretrained - scratch, 95 % CI over seeds")
    for axis in (left, right):
        axis.set_xlabel("labelled training subjects")
        axis.spines[["top", "right"]].set_visible(False)
    return plot


if __name__ == "__main__":
    script(main)
