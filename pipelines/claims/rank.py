"""Claim: effective rank orders the runs of one method, and not of different methods.

Pretrains a small grid of hyperparameters of each method on chest X-rays, and compares RankMe of the
frozen features with what a linear probe reads from them: Spearman's correlation within each method,
averaged, and over the runs of all methods. Intervals are a bootstrap over runs, method by method.

    python pipelines/claims/rank.py DATA OUT
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import typer
from pydantic import Field

from medssl.bundle import Bundle
from medssl.cli.common import StudyKey, preset
from medssl.cli.ending import script
from medssl.config import StrictModel, load
from medssl.errors import MedsslError
from medssl.evaluate.features import pooled_features
from medssl.evaluate.probing import Rows, labelled_subsets, probe_metrics
from medssl.evaluate.targets import class_targets
from medssl.store import Store
from medssl.studies.claims import Claim, Finding
from medssl.studies.data import ready_store, study_split
from medssl.studies.measure import rank_of
from medssl.studies.runs import pretrained, same_study, write_whole
from medssl.training.pretrain import PretrainConfig

NAME = "rank"
FAILED = ("TRAINING_COLLAPSED", "TRAINING_DIVERGED")


class Settings(StrictModel):
    """``grid``: by method, the values of its options, all combined; ``labels``: the share of them
    that the linear probe learns from."""

    folder: str
    seeds: int = Field(1, ge=1)
    labels: float = Field(gt=0, le=1)
    grid: dict[str, dict[str, list[Any]]]
    pretrain: dict[str, Any]

    def options(self, method: str) -> list[dict[str, Any]]:
        """Every combination of a method's values."""
        names = list(self.grid[method])
        values = itertools.product(*self.grid[method].values())
        return [dict(zip(names, some, strict=True)) for some in values]


def main(
    data: Annotated[Path, typer.Argument(help="The folder that holds the data set's folder.")],
    out: Annotated[Path, typer.Argument(help="Where store, runs and rank.json go.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value pairs.")] = None,
    config: Annotated[Path, typer.Option(help="Preset or YAML file.")] = Path("claims/rank"),
    key_file: StudyKey = None,
) -> None:
    """Test what effective rank orders."""
    settings = load(Settings, preset(config), overrides or [])
    out.mkdir(parents=True, exist_ok=True)
    same_study(settings.model_dump_json(indent=2, exclude={"seeds"}), out)
    store = ready_store(data / settings.folder, out / "store", key_file=key_file)
    _, classes, targets = class_targets(store, None)
    subjects = [store[v].subject_id for v in targets]
    split, labels = study_split(store), np.array(list(targets.values()), np.int64)
    rows = Rows(labels, subjects, np.array([split[s] for s in subjects]), classes)
    found = []
    for seed, method in itertools.product(range(settings.seeds), settings.grid):
        for number, some in enumerate(settings.options(method)):
            name = f"{method}-{number}-{seed}"
            values = {**settings.pretrain, "method": method, "options": some, "seed": seed}
            found.append(one_run(store, list(targets), rows, settings, values, name, out))
            typer.echo(f"{name}: {found[-1]}")
    table = pd.DataFrame(found)
    table.to_csv(out / "runs.csv", index=False)
    claim = tested(table, settings)
    claim.write(out / f"{NAME}.json")
    typer.echo(claim.text())


def one_run(
    store: Store,
    ids: list[str],
    rows: Rows,
    settings: Settings,
    values: dict[str, Any],
    name: str,
    out: Path,
) -> dict[str, Any]:
    """RankMe and AUROC of one pretraining, or what is on disk of it; nan where it collapsed."""
    file = out / "measured" / f"{name}.json"
    if file.exists():
        return json.loads(file.read_text(encoding="utf-8"))
    row = {"method": values["method"], "options": str(values["options"]), "seed": values["seed"]}
    rank = auroc = float("nan")
    try:
        config = load(PretrainConfig, values={"preview_every": 10**6, **values})
        bundle = Bundle.load(pretrained(store.path, out / "pretrained" / name, config, out))
    except MedsslError as error:
        if error.code not in FAILED:
            raise
    else:
        encoder, contract = bundle.model().encoder, bundle.spec.contract
        features = pooled_features(encoder, store, ids, contract, device=config.device)
        everything = features.values.numpy()
        rank = rank_of(everything[rows.where("train")])
        share = settings.labels
        train, held = labelled_subsets(rows, [share], values["seed"])[share]
        auroc = probe_metrics("linear", everything, rows, train, held)["auroc"]
    row |= {"rankme": rank, "auroc": auroc}
    write_whole(file, json.dumps(row))
    return row


def spearman(pairs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Spearman's correlation of (draws, n, 2), one a draw; nan where one side is constant."""
    from scipy.stats import rankdata

    ranks = rankdata(pairs, axis=1)
    ranks = ranks - ranks.mean(axis=1, keepdims=True)
    spread = np.sqrt(np.square(ranks).sum(axis=1).prod(axis=1))
    with np.errstate(invalid="ignore"):
        return ranks.prod(axis=2).sum(axis=1) / spread


def correlations(runs: Sequence[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    """Averaged over methods, over the runs of all of them, and of each: (draws, 2 + methods).

    Args:
        runs: of each method (draws, n, 2), effective rank and quality.
    """
    each = np.stack([spearman(some) for some in runs], axis=1)
    pooled = spearman(np.concatenate(runs, axis=1))
    return np.column_stack([each.mean(axis=1), pooled, each])


def bootstrap(
    runs: Sequence[npt.NDArray[np.float64]], repeats: int = 5000, seed: int = 0
) -> npt.NDArray[np.float64]:
    """:func:`correlations` of runs (n, 2) drawn with replacement, method by method.

    Draws in which all runs of a method are alike have no correlation, and are left out.
    """
    generator = np.random.default_rng(seed)
    drawn = [one[generator.integers(len(one), size=(repeats, len(one)))] for one in runs]
    found = correlations(drawn)
    return found[np.isfinite(found).all(axis=1)]


def tested(table: pd.DataFrame, settings: Settings) -> Claim:
    """The claim's verdict."""
    done = table.dropna(subset=["rankme", "auroc"])
    columns = ["rankme", "auroc"]
    values = {m: done.loc[done["method"] == m, columns].to_numpy(np.float64) for m in settings.grid}
    # fewer than three different values have no order to speak of
    names = [m for m, v in values.items() if all(len(set(column)) > 2 for column in v.T)]
    if not names:
        raise MedsslError("NOTHING_USABLE", "No method has runs that differ in rank and quality")
    runs = [values[name] for name in names]
    within, pooled, *each = correlations([some[None] for some in runs])[0].tolist()
    draws = bootstrap(runs)
    total = sum(map(len, runs))

    def finding(
        text: str, mean: float, values: npt.NDArray[np.float64], units: int, decides: bool
    ) -> Finding:
        low, high = np.percentile(values, [2.5, 97.5])
        return Finding(text, mean, float(low), float(high), units, "runs", decides)

    difference = draws[:, 0] - draws[:, 1]
    findings = [
        finding("Spearman within a method, mean", within, draws[:, 0], total, True),
        finding("within - over all methods", within - pooled, difference, total, True),
        finding("Spearman over all methods", pooled, draws[:, 1], total, False),
    ]
    for i, name in enumerate(names):
        text = f"Spearman within {name}"
        findings.append(finding(text, each[i], draws[:, 2 + i], len(runs[i]), False))
    lost = len(table) - len(done)
    notes = [f"{lost} of {len(table)} runs collapsed or diverged and are left out."] if lost else []
    shown = ["method", "options", "seed", *columns]
    return Claim(
        NAME,
        "Effective rank orders the runs of one method, and not of different methods",
        "Garrido et al. 2023, RankMe",
        f"python pipelines/claims/{NAME}.py DATA OUT",
        f"Chest X-rays, {settings.pretrain['steps']} steps of {settings.pretrain['batch_size']};"
        f" RankMe of the training images' features against the AUROC of a linear probe with"
        f" {100 * settings.labels:g} % of the labels, on the test subjects; bootstrap over runs.",
        findings,
        done[shown].to_dict("records"),
        notes,
    )


if __name__ == "__main__":
    script(main)
