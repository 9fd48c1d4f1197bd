"""``medssl finetune segmentation``, ``classification`` and ``regression``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer(
    no_args_is_help=True,
    help="Fine-tune with few labels: segmentation, classification or regression.",
    rich_markup_mode="rich",
)

Store = Annotated[Path, typer.Argument(help="A store with labels.")]
Out = Annotated[Path, typer.Argument(help="A new folder for the run.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="key=value pairs that change the configuration.")
]
Init = Annotated[str, typer.Option(help="A bundle's folder, or the word scratch.")]
Labels = Annotated[
    str, typer.Option(help="Labelled training subjects: a number, a share such as 0.1, or all.")
]
Config = Annotated[
    Path | None, typer.Option(help="A YAML file, or the name of a preset of configs/.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@app.command()
def segmentation(
    store: Store,
    out: Out,
    overrides: Overrides = None,
    init: Init = "scratch",
    labels: Labels = "all",
    config: Config = None,
    json_output: Json = False,
) -> None:
    """Fine-tune a segmenter; reports Dice, NSD and HD95 on whole held-out volumes.

    \b
    Example:
      medssl finetune segmentation STORE runs/seg --init runs/mae/bundle --labels 2 steps=500
      medssl finetune segmentation STORE runs/scratch --init scratch --labels 2 steps=500
    """
    _run("segmentation", store, out, overrides, init, labels, config, None, json_output)


@app.command()
def classification(
    store: Store,
    out: Out,
    overrides: Overrides = None,
    init: Init = "scratch",
    labels: Labels = "all",
    label: Annotated[str | None, typer.Option(help="The label's name in the manifest.")] = None,
    config: Config = None,
    json_output: Json = False,
) -> None:
    """Fine-tune a classifier; reports AUROC, average precision and balanced accuracy.

    \b
    Example:
      medssl finetune classification STORE runs/cls --init runs/simclr/bundle --labels 0.1
    """
    _run("classification", store, out, overrides, init, labels, config, label, json_output)


@app.command()
def regression(
    store: Store,
    out: Out,
    overrides: Overrides = None,
    init: Init = "scratch",
    labels: Labels = "all",
    target: Annotated[
        str | None, typer.Option(help="The column of numbers in the manifest.")
    ] = None,
    config: Config = None,
    json_output: Json = False,
) -> None:
    """Fine-tune a predictor of one number per volume; reports MAE, Pearson's r and R^2.

    \b
    Example:
      medssl finetune regression STORE runs/age --init runs/mae/bundle --target age
    """
    _run("regression", store, out, overrides, init, labels, config, target, json_output)


def _run(
    kind: Literal["segmentation", "classification", "regression"],
    store: Path,
    out: Path,
    overrides: list[str] | None,
    init: str,
    labels: str,
    config: Path | None,
    label: str | None,
    json_output: bool,
) -> None:
    from medssl.cli.common import preset, show
    from medssl.config import load
    from medssl.finetune import FinetuneConfig, finetune

    result = finetune(
        kind,
        store,
        out,
        load(FinetuneConfig, preset(config), overrides or []),
        init=None if init == "scratch" else Path(init),
        labels=_labels(labels),
        label=label,
    )
    values = {
        "bundle": str(result.bundle),
        "labelled_subjects": len(result.train_subjects),
        "test_subjects": len(result.test_subjects),
        **(result.transfer.summary() if result.transfer else {"init": "scratch"}),
        **result.metrics,
        "mlflow_run": result.mlflow_run,
    }
    show(f"fine-tuned for {kind}", values, json_output)


def _labels(text: str) -> int | float | None:
    if text == "all":
        return None
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        raise typer.BadParameter("a number, a share such as 0.1, or all") from None
