"""MLflow: every training verb logs its configuration, metrics, figures and bundle here.

The server is ``MLFLOW_TRACKING_URI`` where it is set, else an SQLite file ``mlflow.db`` beside the
output folder, with its artifacts in ``mlartifacts/`` beside it.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medssl.errors import MedsslError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PARAMETER_LIMIT = 500
_BATCH_LIMIT = 1000  # metrics that MLflow takes at once


def default_uri(folder: Path) -> str:
    """The SQLite address used when ``MLFLOW_TRACKING_URI`` is not set."""
    return f"sqlite:///{(folder.resolve() / 'mlflow.db').as_posix()}"


def code_version() -> dict[str, str]:
    """The code that runs: medssl's version, and the git revision of its own checkout.

    ``git_revision`` is "unknown" where medssl is installed without a repository, and ends in
    "-dirty" where files differ from it. No path is told.
    """
    return {"medssl_version": metadata.version("medssl"), "git_revision": _revision()}


def _revision() -> str:
    root = Path(__file__).resolve().parent.parent
    # An installed package may lie inside someone else's repository, whose revision is not ours.
    if not (root / "pyproject.toml").is_file() or shutil.which("git") is None:
        return "unknown"
    describe = ("describe", "--always", "--abbrev=40", "--dirty", "--exclude=*")
    told = subprocess.run(
        ["git", "-C", str(root), *describe], capture_output=True, text=True, check=False
    )
    return told.stdout.strip() if told.returncode == 0 else "unknown"


class Run:
    """One MLflow run."""

    def __init__(self, client: Any, run_id: str, uri: str) -> None:
        self._client, self.run_id, self.uri = client, run_id, uri

    def log_config(self, config: Mapping[str, Any]) -> None:
        """Log a nested configuration as flat parameters, and whole as ``config.json``."""
        from mlflow.entities import Param

        flat = [Param(key, str(value)[:_PARAMETER_LIMIT]) for key, value in _flatten(config)]
        for start in range(0, len(flat), 100):
            self._client.log_batch(self.run_id, params=flat[start : start + 100])
        self._client.log_dict(self.run_id, dict(config), "config.json")

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log numbers at a step; NaN and infinities are left out."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        finite = {k: float(v) for k, v in metrics.items() if abs(float(v)) < float("inf")}
        entries = [Metric(key, value, now, step) for key, value in finite.items()]
        if entries:
            self._client.log_batch(self.run_id, metrics=entries)

    def log_rows(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Log rows of numbers, each with its ``step``, in one call."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        entries = [
            Metric(key, float(value), now, int(row["step"]))
            for row in rows
            for key, value in row.items()
            if key != "step" and abs(float(value)) < float("inf")
        ]
        for start in range(0, len(entries), _BATCH_LIMIT):
            self._client.log_batch(self.run_id, metrics=entries[start : start + _BATCH_LIMIT])

    def log_figure(self, figure: Figure, name: str) -> None:
        """Log a matplotlib figure as ``figures/NAME.png``."""
        self._client.log_figure(self.run_id, figure, f"figures/{name}.png")

    def log_file(self, path: Path, folder: str = "") -> None:
        """Log one file."""
        self._client.log_artifact(self.run_id, str(path), folder or None)

    def log_folder(self, path: Path, folder: str) -> None:
        """Log a folder and what is in it."""
        self._client.log_artifacts(self.run_id, str(path), folder)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags."""
        for key, value in tags.items():
            self._client.set_tag(self.run_id, key, value)


class _Silent(Run):
    """Sends nothing."""

    def log_config(self, config: Mapping[str, Any]) -> None:
        """Nothing."""

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Nothing."""

    def log_rows(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Nothing."""

    def log_figure(self, figure: Figure, name: str) -> None:
        """Nothing."""

    def log_file(self, path: Path, folder: str = "") -> None:
        """Nothing."""

    def log_folder(self, path: Path, folder: str) -> None:
        """Nothing."""

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Nothing."""


@contextmanager
def run(
    experiment: str,
    name: str,
    folder: Path,
    *,
    resume_run: str = "",
    tags: Mapping[str, str] = {},
    silent: bool = False,
) -> Iterator[Run]:
    """Open an MLflow run, closed as FINISHED, FAILED when an exception passes, KILLED when stopped.

    No user name, host or path is sent along.

    Args:
        experiment: its experiment, made where it does not exist.
        name: the run's name.
        folder: where ``mlflow.db`` goes when ``MLFLOW_TRACKING_URI`` is not set.
        resume_run: the id of a run to go on with; a new run where the server has it no more.
        tags: tags of the run.
        silent: nothing is sent and the run has no id: for all processes but the first.
    """
    if silent:
        yield _Silent(None, "", "")
        return
    client, uri = _client(folder)
    experiment_id = _experiment(client, experiment, folder, uri)
    run_id = resume_run if resume_run and _has_run(client, resume_run) else ""
    if not run_id:
        made_by = {**code_version(), **tags}
        run_id = client.create_run(experiment_id, tags=made_by, run_name=name).info.run_id
    try:
        yield Run(client, run_id, uri)
    except BaseException as error:
        stopped = False
        if isinstance(error, MedsslError):
            client.set_tag(run_id, "error", error.code)
            stopped = error.code == "RUN_STOPPED"
        client.set_terminated(run_id, "KILLED" if stopped else "FAILED")
        raise
    client.set_terminated(run_id, "FINISHED")


def _client(folder: Path) -> tuple[Any, str]:
    # A hospital's runs call no one, and MLflow's own messages are not for the user.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    from mlflow import MlflowClient

    for logger in ("mlflow", "alembic"):
        logging.getLogger(logger).setLevel(logging.ERROR)

    uri = os.environ.get("MLFLOW_TRACKING_URI") or default_uri(folder)
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    return MlflowClient(tracking_uri=uri, registry_uri=uri), uri


def _experiment(client: Any, name: str, folder: Path, uri: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    place = None
    if uri.startswith("sqlite:///"):
        place = (Path(uri.removeprefix("sqlite:///")).parent / "mlartifacts").resolve().as_uri()
    return str(client.create_experiment(name, artifact_location=place))


def _has_run(client: Any, run_id: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        client.get_run(run_id)
    except MlflowException:
        return False
    return True


def _flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
