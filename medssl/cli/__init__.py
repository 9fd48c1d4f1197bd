"""The command line: one Typer application, one module per verb; errors become exit codes."""

from __future__ import annotations

import typer

from medssl.cli import (
    demo,
    evaluate,
    export,
    finetune,
    ingest,
    inspect,
    locate,
    predict,
    pretrain,
    reidentify,
    review,
    split,
)
from medssl.cli.ending import ended

app = typer.Typer(
    name="medssl",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Self-supervised pretraining on your own scans: from DICOM to a reviewed segmentation.",
)
app.command()(ingest.ingest)
app.command()(inspect.inspect)
app.command()(split.split)
app.command()(pretrain.pretrain)
app.command()(evaluate.evaluate)
app.add_typer(finetune.app, name="finetune")
app.command()(predict.predict)
app.command()(locate.locate)
app.command()(export.export)
app.command()(review.review)
app.command()(reidentify.reidentify)
app.command()(demo.demo)


@app.callback(invoke_without_command=True)
def _root(
    version: bool = typer.Option(False, "--version", help="Print the version and stop."),
) -> None:
    if version:
        from medssl import __version__

        typer.echo(f"medssl {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line; every expected failure prints one line and its exit code."""
    ended(app)
