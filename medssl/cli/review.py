"""`medssl review`: start the review app on a results folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RESULTS_VARIABLE = "MEDSSL_REVIEW_RESULTS"
_LOCAL = {"127.0.0.1", "localhost", "::1"}
# The app sends nothing out, asks for no e-mail address, and has the dark look of a reading room.
_OPTIONS = {
    "browser.gatherUsageStats": "false",
    "client.showErrorDetails": "none",
    "client.showErrorLinks": "false",
    "client.toolbarMode": "minimal",
    "server.fileWatcherType": "none",
    "server.showEmailPrompt": "false",
    "theme.base": "dark",
    "theme.backgroundColor": "#0e1216",
    "theme.secondaryBackgroundColor": "#182028",
    "theme.textColor": "#e3e9ef",
    "theme.primaryColor": "#3d8fd1",
}


def review(
    results: Annotated[Path, typer.Argument(help="Results folder that `medssl predict` wrote.")],
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8501,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    browser: Annotated[bool, typer.Option(help="Open a browser window.")] = True,
) -> None:
    """Review predictions in the browser: three planes, overlay, accept, reject, comment.

    Verdicts go to RESULTS/verdicts.db, or to the database that MEDSSL_VERDICTS_URL names.
    The app has no log-in: listen beyond this machine only on a network you trust.
    Ctrl-C stops it.

    \b
    Example:
      medssl review predictions/
      medssl review predictions/ --port 8600 --no-browser
    """
    from medssl.resources import find

    folder = results.resolve()
    _check_results(folder)
    app = find("apps/review/app.py")
    _check_port(host, port)
    if host not in _LOCAL:
        typer.echo("Anyone who reaches this address can read the cases and give verdicts.")
    typer.echo(f"Review app: http://{host}:{port}  (Ctrl-C stops it)")
    raise typer.Exit(_serve(app, folder, host, port, browser))


def _check_results(folder: Path) -> None:
    """Open the folder as the app will. Raises INPUT_MISSING, RESULTS_INVALID."""
    import importlib.util
    import sys

    from medssl.errors import MedsslError
    from medssl.resources import find

    if not folder.is_dir():
        raise MedsslError("INPUT_MISSING", "There is no such folder", where="RESULTS")
    # The app's modules are no package: they are found beside app.py, in a checkout or a wheel.
    name = "review_results"
    spec = importlib.util.spec_from_file_location(name, find(f"apps/review/{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    module.Results(folder)


def _check_port(host: str, port: int) -> None:
    """Raises PORT_UNAVAILABLE where the app could not listen on `host` and `port`."""
    import socket

    from medssl.errors import MedsslError

    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise MedsslError(
            "PORT_UNAVAILABLE",
            f"Cannot listen on {host}:{port}",
            where="--host, --port",
            fix="Give another --port; another program may be using this one.",
        ) from error


def _serve(app: Path, folder: Path, host: str, port: int, browser: bool) -> int:
    """Run Streamlit until it ends or is stopped; returns its exit code."""
    import os
    import signal
    import subprocess
    import sys

    options = _OPTIONS | {
        "server.address": host,
        "server.port": str(port),
        "server.headless": str(not browser).lower(),
    }
    command = [sys.executable, "-m", "streamlit", "run", str(app)]
    command += [f"--{name}={value}" for name, value in options.items()]
    environment = os.environ | {RESULTS_VARIABLE: str(folder)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as server:
        # A service manager stops this process, not its child; Ctrl-C reaches both.
        signal.signal(signal.SIGTERM, lambda *_: server.terminate())
        try:
            code = server.wait()
        except KeyboardInterrupt:
            server.wait()
            return 0
    return max(code, 0)
