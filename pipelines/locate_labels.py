"""Does an anatomical embedding find a place of one patient in another?

Pretrains it on the training subjects of a folder of scans with label maps (``images/``,
``labels/``, ``subjects.csv``). Then, for every two of the subjects that are measured, the middle of
each label in one is looked for in the other: how many mm from the middle of the same label there?
Beside it what needs no images: the same place as a share of the scan's extent, and the scan's
middle; and the same network with random weights. What similarity and the way back are worth is
measured with scans from which one label was cut away. Choose settings with measured=validation;
then measure once.

    python pipelines/locate_labels.py DATA OUT --config locate_labels/cpu
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import typer

from medssl import tracking
from medssl.bundle import Bundle
from medssl.cli.common import StudyKey, preset
from medssl.cli.ending import script
from medssl.config import StrictModel, load
from medssl.errors import MedsslError
from medssl.evaluate.run import count_seen
from medssl.evaluate.stats import paired_interval, verdict
from medssl.store import Store, Volume
from medssl.studies.data import ready_store, study_split
from medssl.studies.places import ARMS, FOUND, measured, missed
from medssl.studies.runs import pretrained, same_study, write_whole
from medssl.training.pretrain import PretrainConfig


class Study(StrictModel):
    """``folder`` of the data, whose label maps are of ``label_names``; ``measured`` are the
    subjects whose first scans are paired."""

    folder: str = "hippocampus"
    modality: str = "MR"
    label_names: dict[int, str]
    measured: Literal["validation", "test"] = "test"
    pretrain: PretrainConfig


def main(
    data: Annotated[Path, typer.Argument(help="The folder that holds the data set's folder.")],
    out: Annotated[Path, typer.Argument(help="Where store, run, tables and figure go.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value pairs.")] = None,
    config: Annotated[Path, typer.Option(help="Preset or YAML file.")] = Path("locate_labels/cpu"),
    key_file: StudyKey = None,
) -> None:
    """Measure how far from the same label's middle a label's middle is found."""
    study = load(Study, preset(config), overrides or [])
    out.mkdir(parents=True, exist_ok=True)
    same_study(study.model_dump_json(indent=2, exclude={"measured"}), out)
    store = ready_store(
        data / study.folder,
        out / "store",
        modality=study.modality,
        label_names=study.label_names,
        key_file=key_file,
    )
    bundle = Bundle.load(pretrained(store.path, out / "pretrained", study.pretrain, out))
    volumes = first_volumes(store, study)
    if study.measured == "test":
        count_seen(bundle, [volume.subject_id for volume in volumes])
    settings = study.pretrain
    table = measured(bundle, volumes, study.label_names, settings.seed, settings.device)
    cut = missed(bundle, volumes, study.label_names, settings.device)
    report(table, cut, study, store, out)


def first_volumes(store: Store, study: Study) -> list[Volume]:
    """The first volume of every measured subject that has all labels.

    Raises:
        MedsslError: LABELS_TOO_FEW.
    """
    split, found = study_split(store), {}
    for volume_id in store.manifest["volume_id"]:
        volume = store[volume_id]
        if split[volume.subject_id] == study.measured and volume.subject_id not in found:
            label = volume.label()
            if label is not None and set(study.label_names) <= set(np.unique(label).tolist()):
                found[volume.subject_id] = volume
    if len(found) < 2:
        raise MedsslError("LABELS_TOO_FEW", f"There are no two {study.measured} subjects to pair")
    return list(found.values())


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Per label and arm: median, quartiles and 90th percentile in mm; and how much smaller the
    embedding's mean error is than the arm's, over the same pairs.

    The interval's unit is the subject in which a place is looked for: errors in one scan are not
    independent of each other.
    """
    rows = []
    for label in [*dict.fromkeys(table["label"]), "all"]:
        part = table if label == "all" else table[table["label"] == label]
        wide = part.pivot_table(index=["to", "from", "label"], columns="arm", values="error_mm")
        for arm in ARMS:
            low, middle, high, most = np.percentile(wide[arm], (25, 50, 75, 90))
            row = {"label": label, "arm": arm, "median": middle, "low quartile": low}
            row |= {"high quartile": high, "90 %": most, "pairs": len(wide)}
            if arm != FOUND:
                gain = paired_interval(
                    wide[arm].to_numpy(),
                    wide[FOUND].to_numpy(),
                    groups=wide.index.get_level_values("to").tolist(),
                )
                row |= {"gain": gain.mean, "gain low": gain.low, "gain high": gain.high}
                row |= {"subjects": gain.units, "embedding better": verdict(gain)}
            rows.append(row)
    return pd.DataFrame(rows)


def trust(table: pd.DataFrame, cut: pd.DataFrame) -> pd.DataFrame:
    """What similarity and the way back say: of pairs in thirds by the way back, with the median
    error; and in scans that were cut, of places that are gone and of those that are left."""
    found = table[table["arm"] == FOUND]
    thirds = pd.qcut(found["return_mm"].rank(method="first"), 3, labels=["least", "middle", "most"])
    parts = {f"there, {name} third": part for name, part in found.groupby(thirds, observed=True)}
    parts |= {"left in a cut scan": cut[~cut["gone"]], "gone from a cut scan": cut[cut["gone"]]}
    rows = [
        {
            "place": name,
            "pairs": len(part),
            "return_mm": part["return_mm"].median(),
            "similarity": part["similarity"].median(),
            "error_mm": part["error_mm"].median() if "error_mm" in part else float("nan"),
        }
        for name, part in parts.items()
    ]
    return pd.DataFrame(rows)


def told_apart(cut: pd.DataFrame) -> dict[str, float]:
    """How well each number tells places that are left in cut scans from those that are gone: areas
    under the ROC curve, 0.5 being chance; nan where none are left."""
    from sklearn.metrics import roc_auc_score

    left = ~cut["gone"].to_numpy(bool)
    if not left.any():
        return {"similarity": float("nan"), "return_mm": float("nan")}
    signs = {"similarity": 1.0, "return_mm": -1.0}
    return {name: float(roc_auc_score(left, sign * cut[name])) for name, sign in signs.items()}


def markdown(found: pd.DataFrame, trusted: pd.DataFrame, areas: dict[str, float]) -> str:
    """All three in markdown."""
    lines = [
        "| label | found by | median, mm | quartiles | 90 % |"
        " embedding's mean error is smaller by | embedding better |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in found.to_dict("records"):
        spread = f"{row['low quartile']:.2f} to {row['high quartile']:.2f}"
        gain, answer = "", ""
        if row["arm"] != FOUND:
            gain = f"{row['gain']:+.2f} [{row['gain low']:+.2f}, {row['gain high']:+.2f}]"
            answer = row["embedding better"]
        lines.append(
            f"| {row['label']} | {row['arm']} | {row['median']:.2f} | {spread} |"
            f" {row['90 %']:.2f} | {gain} | {answer} |"
        )
    lines += [
        "",
        "| place, by its way back | pairs | median there and back, mm | median similarity |"
        " median error, mm |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in trusted.to_dict("records"):
        error = f"{row['error_mm']:.2f}" if np.isfinite(row["error_mm"]) else ""
        lines.append(
            f"| {row['place']} | {row['pairs']} | {row['return_mm']:.2f} |"
            f" {row['similarity']:.3f} | {error} |"
        )
    lines += [
        "",
        f"Told apart in cut scans, left or gone: AUROC {areas['similarity']:.3f} by similarity, "
        f"{areas['return_mm']:.3f} by there and back.",
    ]
    return "\n".join(lines) + "\n"


def figure(table: pd.DataFrame) -> Any:
    """The share of pairs with an error of at most so many mm, of every arm, a panel a label."""
    from matplotlib.figure import Figure

    labels = list(dict.fromkeys(table["label"]))
    plot = Figure(figsize=(4 * len(labels), 3.4), layout="constrained")
    axes = plot.subplots(1, len(labels), sharey=True, squeeze=False)[0]
    colours = dict(zip(ARMS, ("#1f6fb2", "#999999", "#d9822b", "#c9b27c"), strict=True))
    for axis, label in zip(axes, labels, strict=True):
        part = table[table["label"] == label]
        for arm, colour in colours.items():
            errors = np.sort(part.loc[part["arm"] == arm, "error_mm"].to_numpy())
            axis.step(errors, np.arange(1, len(errors) + 1) / len(errors), color=colour, label=arm)
        axis.set_title(label)
        axis.set_xlabel("error, mm")
        axis.set_xlim(0, float(part["error_mm"].quantile(0.98)))
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("share of pairs")
    axes[-1].legend(frameon=False)
    return plot


def report(table: pd.DataFrame, cut: pd.DataFrame, study: Study, store: Store, out: Path) -> None:
    """Write and log the tables and the figure; print them."""
    found, areas = summary(table), told_apart(cut)
    name = f"locate_labels-{study.measured}"
    table.to_csv(out / f"{name}.csv", index=False)
    cut.to_csv(out / f"{name}-cut.csv", index=False)
    found.to_csv(out / f"{name}-summary.csv", index=False)
    subjects = table["to"].nunique()
    text = f"{subjects} {study.measured} subjects, every one in every other.\n\n"
    text += markdown(found, trust(table, cut), areas)
    write_whole(out / f"{name}.md", text)
    typer.echo(text)
    typer.echo(f"Store {store.fingerprint()[:12]}")
    figure(table).savefig(out / f"{name}.png", dpi=150)
    with tracking.run("medssl-locate-labels", study.measured, out) as run:
        run.log_config(study.model_dump(mode="json"))
        for ending in (".csv", "-cut.csv", "-summary.csv", ".md", ".png"):
            run.log_file(out / f"{name}{ending}")
        whole = found[found["label"] == "all"]
        names = [arm.replace(" ", "_") for arm in whole["arm"]]
        run.log_metrics({f"auroc_{name}": area for name, area in areas.items()})
        run.log_metrics(
            {f"median_mm_{arm}": m for arm, m in zip(names, whole["median"], strict=True)}
        )


if __name__ == "__main__":
    script(main)
