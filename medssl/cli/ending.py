"""How a program ends: an expected failure prints one line, and every end has its exit code."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from typing import Any

import typer

from medssl.errors import Exit, MedsslError


def ended(app: Callable[[], Any]) -> None:
    """Run a program; what it raises becomes one line on stderr and an exit code."""
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


def script(function: Callable[..., None]) -> None:
    """Run a function as a program of its own, its parameters the command line."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(function)
    ended(app)
