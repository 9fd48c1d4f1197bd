"""``medssl pretrain``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

# In the order of medssl.methods.METHODS, whose import takes too long for --help.
METHOD_NAMES = (
    "mae",
    "simmim",
    "gmml",
    "simclr",
    "dcl",
    "moco",
    "nnclr",
    "ressl",
    "byol",
    "directpred",
    "simsiam",
    "vicreg",
    "barlow",
    "mixed_barlow",
    "swav",
    "deepcluster",
    "dino",
    "sit",
    "hybrid",
    "pixpro",
    "dense_contrast",
    "rotation",
    "relative_position",
    "mp3",
    "anatomical_embedding",
    "global_local",
    "uni4eye",
    "image_volume",
    "alice",
)


def pretrain(
    store: Annotated[Path, typer.Argument(help="A store made by `medssl ingest`.")],
    out: Annotated[Path, typer.Argument(help="A new folder for checkpoints and the bundle.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value pairs that change the configuration.")
    ] = None,
    method: Annotated[
        str | None, typer.Option(help=f"{', '.join(METHOD_NAMES)}; see docs/methods.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="A YAML file, or the name of a preset of configs/.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on with the stopped run in OUT.")] = False,
    batch_size: Annotated[
        str | None,
        typer.Option(metavar="NUMBER|auto", help="Samples of a step; auto: the most that fit."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Measure for half a minute what the run will cost; write nothing."
        ),
    ] = False,
    replay: Annotated[
        bool,
        typer.Option("--replay", help="Run the step again that broke the run in OUT, and show it."),
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Pretrain an encoder on a store's images, without labels.

    The bundle lands in OUT/bundle, reconstructions or views in OUT/previews, metrics in MLflow
    (MLFLOW_TRACKING_URI, else mlflow.db beside OUT). Subjects of the validation and test splits
    are held out. A run that SIGTERM, SIGUSR1 or Ctrl-C stops ends with exit code 7.

    \b
    Example:
      medssl pretrain STORE runs/mae --method mae steps=2000 batch_size=4
      medssl pretrain STORE runs/mae --resume --method mae steps=2000 batch_size=4
      torchrun --nproc-per-node 4 --no-python medssl pretrain STORE runs/big batch_size=64
      medssl pretrain STORE runs/long --method mae schedule=wsd steps=2000
      medssl pretrain STORE runs/long --resume --method mae schedule=wsd steps=+1000
      medssl pretrain STORE runs/mae --dry-run --method mae --batch-size auto
    """
    if replay:
        from medssl.cli.pretrain_checks import show_replay

        return show_replay(store, out, json_output)
    from medssl.cli.common import preset, show
    from medssl.config import load
    from medssl.training.folder import more_steps
    from medssl.training.pretrain import PretrainConfig
    from medssl.training.pretrain import pretrain as run

    given = {"method": method, "batch_size": batch_size}
    values = {key: value for key, value in given.items() if value is not None}
    changes = more_steps(out, overrides or []) if resume else overrides or []
    settings = load(PretrainConfig, preset(config), changes, values)
    if dry_run:
        from medssl.cli.pretrain_checks import show_dry_run

        return show_dry_run(store, settings, json_output)
    result = run(store, out, settings, resume=resume)
    show(
        "pretrained",
        {
            "bundle": str(result.bundle),
            "subjects": len(result.subjects),
            "steps": settings.steps,
            "loss": result.history.rows[-1]["loss"],
            "seconds": round(result.history.seconds, 1),
            "mlflow_run": result.mlflow_run,
        },
        json_output,
    )
