"""``medssl evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from medssl.evaluate.run import EvaluationResult


def evaluate(
    bundle: Annotated[Path, typer.Argument(help="A bundle made by `medssl pretrain`.")],
    store: Annotated[Path, typer.Argument(help="A store with labels.")],
    out: Annotated[Path | None, typer.Option(help="A new folder for tables and figure.")] = None,
    label: Annotated[
        str | None,
        typer.Option(help="The label's name in the manifest; by default the label maps, if any."),
    ] = None,
    fractions: Annotated[
        str, typer.Option(help="Shares of the training subjects' labels.")
    ] = "0.01,0.1,1",
    split: Annotated[
        str | None, typer.Option(help="A split of `medssl split`: NAME, or NAME:FOLD.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Paired repeats.")] = 3,
    allow_seen: Annotated[
        bool, typer.Option("--allow-seen", help="Go on though test images were pretrained on.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    json_output: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Show whether a bundle's encoder learned anything.

    A linear probe and 20 nearest neighbours read its frozen features with 1, 10 and 100 % of the
    training subjects' labels, against the same network with random weights, on the test subjects.
    RankMe is the effective rank of the features: compare it within one method only.

    \b
    Example:
      medssl evaluate runs/mae/bundle STORE --out runs/mae/evaluation
      medssl evaluate runs/simclr/bundle STORE --label pneumonia --json
    """
    from medssl.evaluate.run import evaluate as run

    result = run(
        bundle,
        store,
        out=out,
        label=label,
        fractions=_fractions(fractions),
        seeds=seeds,
        split=split,
        allow_seen=allow_seen,
        device=device,
    )
    if json_output:
        import json

        typer.echo(json.dumps(result.summary()))
    else:
        _show(result)


def _fractions(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter("numbers with commas between, such as 0.01,0.1,1") from None


def _show(result: EvaluationResult) -> None:
    from rich.console import Console
    from rich.table import Table

    subjects = ", ".join(f"{n} {name}" for name, n in result.subjects.items())
    table = Table(
        title=f"{result.task} of {result.label}: test AUROC ({subjects} subjects)",
        title_justify="left",
    )
    for name in ("probe", "labels", "pretrained", "random", "difference [95 % CI]", "verdict"):
        table.add_column(name)
    means = result.probes.groupby(["probe", "fraction", "arm"])["auroc"].mean()
    for row in result.differences.to_dict("records"):
        if row["metric"] != "auroc":
            continue
        probe, fraction = row["probe"], row["fraction"]
        table.add_row(
            probe,
            f"{100 * fraction:g} %",
            *(f"{means[probe, fraction, arm]:.3f}" for arm in ("pretrained", "random")),
            f"{row['mean']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]",
            row["verdict"],
        )
    console = Console()
    console.print(table)
    ranks = ", ".join(f"{arm} {value:.1f}" for arm, value in result.rank.items())
    console.print(f"RankMe (at most {result.rank_limit}): {ranks}")
    if result.tested_on != "test":
        console.print(f"The store states no test split: tested on its {result.tested_on} split")
    if result.seen_test_subjects:
        console.print(f"{result.seen_test_subjects} test subjects were seen in pretraining")
