"""The command line: one Typer application, one module per verb; errors become exit codes."""

from __future__ import annotations

import gc
import os
import sys

import typer

from medssl.cli import (
    demo,
    evaluate,
    export,
    finetune,
    ingest,
    inspect,
    predict,
    pretrain,
    reidentify,
    review,
    split,
)
from medssl.errors import Exit, MedsslError

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
    try:
        app()
    except MedsslError as error:
        typer.echo(str(error), err=True)
        sys.exit(int(error.exit_code))
    except MemoryError:
        typer.echo("OUT_OF_MEMORY: Memory ran out. Try a smaller batch or patch.", err=True)
        sys.exit(int(Exit.OUT_OF_RESOURCES))
    except KeyboardInterrupt:
        typer.echo("Interrupted.", err=True)
        sys.exit(130)
    except Exception as error:
        # A traceback can hold identifiers (file names, header values), so it is shown on request.
        if os.environ.get("MEDSSL_DEBUG"):
            raise
        typer.echo(
            f"BUG: an unexpected {type(error).__name__}. "
            "Set MEDSSL_DEBUG=1 to see where, and please report it without patient data.",
            err=True,
        )
        sys.exit(int(Exit.BUG))
    finally:
        gc.freeze()  # or Python would search all that is left for garbage before it ends
