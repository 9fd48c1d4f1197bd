"""Claim: pretraining on 2D and 3D together is no worse than on one of them; the gradient adds.

Pretrains Uni4Eye on chest X-rays (2D), on adrenal gland shapes (3D) and on both in turn, each with
and without the decoder of the gradient, at equal updates of either kind. Reads each encoder frozen,
by a linear probe, and fine-tuned. "No worse" is a margin that was stated before: the interval's
lower end lies above minus the margin. Sets of other anatomy test the mechanism, not the paper's
gain.

    python pipelines/claims/joint_dimensions.py DATA OUT
"""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import typer
from pydantic import Field

from medssl.bundle import Bundle
from medssl.cli.common import StudyKey, preset
from medssl.cli.ending import script
from medssl.config import StrictModel, load
from medssl.evaluate.features import pooled_features, random_encoder
from medssl.evaluate.probing import Rows, labelled_subsets, probe_metrics
from medssl.evaluate.run import count_seen
from medssl.evaluate.stats import paired_interval
from medssl.evaluate.targets import class_targets
from medssl.finetune import FinetuneConfig, finetune
from medssl.networks import Encoder
from medssl.store import Store
from medssl.studies.claims import Claim, Finding
from medssl.studies.data import ready_store, study_split
from medssl.studies.runs import pretrained, same_study, set_aside, write_whole
from medssl.training.pretrain import PretrainConfig

NAME = "joint_dimensions"
FROZEN, TUNED = "frozen", "fine-tuned"
JOINT, RANDOM = "both", "random"
Kind = Literal["2d", "3d"]


class Side(StrictModel):
    """A set of one number of dimensions: its folder, the share of its labels that are learned
    from, voxels of a crop and of a patch along an edge."""

    folder: str
    labels: float = Field(gt=0, le=1)
    size: int
    patch: int


class Settings(StrictModel):
    """``updates``: steps on either kind; ``margin``: AUROC that the joint encoder may be behind;
    ``gradient``: the weight of its decoder in the arms that have one."""

    sides: dict[Kind, Side]
    updates: int
    margin: float = Field(gt=0)
    gradient: float = Field(1.0, gt=0)
    seeds: int = Field(3, ge=2)
    pretrain: dict[str, Any]
    encoder_options: dict[str, Any]
    options: dict[str, Any]
    finetune: dict[str, Any]

    def pretraining(self, trained: str, gradient: bool, seed: int) -> PretrainConfig:
        """The configuration of one run; ``trained`` is a kind or both."""
        flat, solid = self.sides["2d"], self.sides["3d"]
        main = flat if trained == "2d" else solid
        options = {**self.options, "gradient_weight": self.gradient if gradient else 0.0}
        values: dict[str, Any] = {
            "preview_every": 10**6,
            "checkpoint_every": 10**6,
            **self.pretrain,
            "method": "uni4eye",
            "options": options,
            "encoder": "vit",
            "encoder_options": {**self.encoder_options, "patch_size": main.patch},
            "dims": JOINT if trained == JOINT else int(trained[0]),
            "patch_size": [main.size] * (2 if trained == "2d" else 3),
            "steps": self.updates * (2 if trained == JOINT else 1),
            "seed": seed,
        }
        if trained == JOINT:
            values["flat"] = {"patch_size": [flat.size] * 2}
            options["flat_patch"] = flat.patch
        return load(PretrainConfig, values=values)


def main(
    data: Annotated[Path, typer.Argument(help="The folder that holds the sets' folders.")],
    out: Annotated[Path, typer.Argument(help=f"Where store, runs and {NAME}.json go.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value pairs.")] = None,
    config: Annotated[Path, typer.Option(help="Preset or YAML file.")] = Path(f"claims/{NAME}"),
    key_file: StudyKey = None,
) -> None:
    """Test what 2D and 3D together are worth."""
    settings = load(Settings, preset(config), overrides or [])
    out.mkdir(parents=True, exist_ok=True)
    same_study(settings.model_dump_json(indent=2, exclude={"seeds"}), out)
    if not (out / "store").exists():
        set_aside(out / "input")
        for side in settings.sides.values():
            shutil.copytree(data / side.folder, out / "input" / side.folder)
    store = ready_store(out / "input", out / "store", key_file=key_file)
    rows: list[dict[str, Any]] = []
    arms = [*itertools.product((*settings.sides, JOINT), (False, True))]
    for seed in range(settings.seeds):
        for trained, gradient in arms:
            rows += one_run(store, settings, trained, gradient, seed, out)
            typer.echo(f"seed {seed}, {trained}, gradient {gradient}: {rows[-1]}")
        rows += controls(store, settings, seed, out)
    table = pd.DataFrame(rows)
    table.to_csv(out / "runs.csv", index=False)
    claim = tested(table, settings)
    claim.write(out / f"{NAME}.json")
    typer.echo(claim.text())


def one_run(
    store: Store, settings: Settings, trained: str, gradient: bool, seed: int, out: Path
) -> list[dict[str, Any]]:
    """What one pretraining is worth, or what is on disk of it: a row for each kind it saw and each
    way to read it."""
    name = f"{trained}-{'gradient' if gradient else 'plain'}-{seed}"
    file = out / "measured" / f"{name}.json"
    if file.exists():
        return _on_disk(file)
    config = settings.pretraining(trained, gradient, seed)
    path = pretrained(store.path, out / "pretrained" / name, config, out)
    lines = []
    for kind in settings.sides if trained == JOINT else (trained,):
        bundle = Bundle.load(path).for_dims(int(kind[0]))
        frozen = frozen_auroc(store, settings, kind, bundle, bundle.model().encoder, seed)
        tuned = tuned_auroc(store, settings, kind, path, seed, out / "tuned" / f"{name}-{kind}")
        lines += _lines(trained, gradient, kind, seed, frozen, tuned)
    write_whole(file, json.dumps(lines))
    return lines


def controls(store: Store, settings: Settings, seed: int, out: Path) -> list[dict[str, Any]]:
    """Random weights, read in the same ways."""
    file = out / "measured" / f"{RANDOM}-{seed}.json"
    if file.exists():
        return _on_disk(file)
    lines = []
    for kind in settings.sides:
        bundle = Bundle.load(out / "pretrained" / f"{kind}-plain-{seed}" / "bundle")
        encoder = random_encoder(bundle.spec.architecture, seed)
        frozen = frozen_auroc(store, settings, kind, bundle, encoder, seed)
        tuned = tuned_auroc(store, settings, kind, None, seed, out / "tuned" / f"{RANDOM}-{kind}")
        lines += _lines(RANDOM, False, kind, seed, frozen, tuned)
    write_whole(file, json.dumps(lines))
    return lines


def _on_disk(file: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    return found


def _lines(
    trained: str, gradient: bool, kind: str, seed: int, frozen: float, tuned: float
) -> list[dict[str, Any]]:
    row = {"seed": seed, "trained": trained, "gradient": gradient, "kind": kind}
    return [
        {**row, "readout": readout, "auroc": value}
        for readout, value in ((FROZEN, frozen), (TUNED, tuned))
    ]


def subjects_of(store: Store, kind: str) -> dict[str, str]:
    """Subject -> split, of those with images of this kind."""
    table, split = store.manifest, study_split(store)
    some = table[table["dims"] == int(kind[0])]["subject_id"]
    return {subject: split[subject] for subject in some}


def frozen_auroc(
    store: Store, settings: Settings, kind: str, bundle: Bundle, encoder: Encoder, seed: int
) -> float:
    """AUROC of a linear probe on the test subjects; a seed draws whose labels are learned."""
    _, classes, targets = class_targets(store, None)
    split = subjects_of(store, kind)
    ids = [v for v in targets if store[v].subject_id in split]
    subjects = [store[v].subject_id for v in ids]
    labels = np.array([targets[v] for v in ids], np.int64)
    rows = Rows(labels, subjects, np.array([split[s] for s in subjects]), classes)
    count_seen(bundle, rows.subjects("test"))
    share = settings.sides[kind].labels  # type: ignore[index]
    train, held = labelled_subsets(rows, [share], seed)[share]
    used = np.unique(np.concatenate([train, held, rows.where("test")]))
    contract, device = bundle.spec.contract, settings.pretrain.get("device", "auto")
    found = pooled_features(encoder, store, [ids[i] for i in used], contract, device=device)
    values = np.zeros((len(ids), found.values.shape[1]), np.float32)
    values[used] = found.values.numpy()
    return float(probe_metrics("linear", values, rows, train, held)["auroc"])


def tuned_auroc(
    store: Store, settings: Settings, kind: str, init: Path | None, seed: int, folder: Path
) -> float:
    """AUROC on the test subjects after fine-tuning; from random weights without a bundle."""
    side = settings.sides[kind]  # type: ignore[index]
    values: dict[str, Any] = {"report": ["test"], "seed": seed, "label_seed": seed}
    if init is None:
        values |= {
            "encoder": "vit",
            "encoder_options": {**settings.encoder_options, "patch_size": side.patch},
            "patch_size": [side.size] * int(kind[0]),
        }
    set_aside(folder)
    result = finetune(
        "classification",
        store.path,
        folder,
        load(FinetuneConfig, values={**settings.finetune, **values}),
        init=init,
        labels=side.labels,
        split=subjects_of(store, kind),
        tracking_folder=folder.parent.parent,
    )
    shutil.rmtree(folder)
    return float(result.metrics["test_auroc"])


def of_arm(
    table: pd.DataFrame, readout: str, kind: str, trained: str, gradient: bool | None = None
) -> npt.NDArray[np.float64]:
    """AUROC by seed, in their order; without ``gradient`` the mean of with and without."""
    some = table[
        (table["readout"] == readout) & (table["kind"] == kind) & (table["trained"] == trained)
    ]
    if gradient is not None:
        some = some[some["gradient"] == gradient]
    return some.groupby("seed")["auroc"].mean().sort_index().to_numpy(np.float64)


def tested(table: pd.DataFrame, settings: Settings) -> Claim:
    """The claim's verdict."""
    margin, kinds = settings.margin, list(settings.sides)
    findings = []
    for readout, kind in itertools.product((FROZEN, TUNED), kinds):
        joint, single = (of_arm(table, readout, kind, name) for name in (JOINT, kind))
        found = paired_interval(joint + margin, single)
        text = f"{readout}, {kind}: joint - single + {margin:g}"
        findings.append(Finding.over_seeds(text, found, decides=readout == FROZEN))
    for readout in (FROZEN, TUNED):
        with_it, without = (
            np.mean(
                [of_arm(table, readout, k, name, on) for k in kinds for name in (k, JOINT)], axis=0
            )
            for on in (True, False)
        )
        text = f"{readout}: with the gradient - without"
        found = paired_interval(with_it, without)
        findings.append(Finding.over_seeds(text, found, decides=readout == FROZEN))
    for readout, kind in itertools.product((FROZEN, TUNED), kinds):
        single, random = (of_arm(table, readout, kind, name) for name in (kind, RANDOM))
        text = f"{readout}, {kind}: single - random weights"
        found = paired_interval(single, random)
        findings.append(Finding.over_seeds(text, found, decides=False))
    order = ["kind", "readout", "trained", "gradient"]
    means = table.groupby(order)["auroc"].agg(["mean", "std"]).reset_index()
    rows = means.rename(columns={"mean": "AUROC", "std": "deviation"}).to_dict("records")
    batch = settings.pretrain["batch_size"]
    labels = ", ".join(f"{100 * side.labels:g} % ({k})" for k, side in settings.sides.items())
    return Claim(
        NAME,
        "2D and 3D together are no worse than either alone; predicting the gradient adds",
        "Cai et al. 2022, Uni4Eye",
        f"python pipelines/claims/{NAME}.py DATA OUT",
        f"Chest X-rays (2D) and adrenal gland shapes (3D), a small ViT, {settings.updates} updates"
        f" of {batch} on either kind; AUROC on the test subjects with these shares of labels:"
        f" {labels}. The margin of {margin:g} was stated before.",
        sorted(findings, key=lambda f: not f.decides),
        [{str(k): v for k, v in row.items()} for row in rows],
        [
            "The two sets show different anatomy: this tests sharing a network, not what pictures"
            " and scans of one organ teach each other.",
            "A joint run takes as many steps as the two single ones together: the blocks it shares"
            " are updated twice as often as a single run's.",
            "Where a single run is no better than random weights, that the joint one is not behind"
            " says little.",
        ],
    )


if __name__ == "__main__":
    script(main)
