"""A run's folder: ``run.json`` says what it was started with, so that only that is resumed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medssl.errors import MedsslError


def open_folder(
    out: Path, config: Mapping[str, Any], fingerprint: str, subjects: Sequence[str], resume: bool
) -> str:
    """Make the run's folder, or check the one to resume.

    Args:
        out: the folder.
        config: the resolved configuration, as JSON has it.
        fingerprint: of the store.
        subjects: pseudonyms of those trained on.
        resume: the folder must exist and have been started with the same.

    Returns:
        the MLflow run to go on with, "" for a new one.

    Raises:
        MedsslError: OUT_EXISTS, INPUT_MISSING, RESUME_MISMATCH.
    """
    record = {
        "config": dict(config),
        "data_fingerprint": fingerprint,
        "subjects": list(subjects),
    }
    file = out / "run.json"
    if not resume:
        if out.exists():
            raise MedsslError(
                "OUT_EXISTS",
                "The output folder already exists",
                where=out.name,
                fix="Give another name, or go on with --resume.",
            )
        out.mkdir(parents=True)
        file.write_text(json.dumps(record, indent=2), encoding="utf-8")
        return ""
    if not file.is_file():
        raise MedsslError("INPUT_MISSING", "There is no run to resume", where=out.name)
    before = json.loads(file.read_text(encoding="utf-8"))
    started = str(before.pop("mlflow_run", ""))
    if before != record:
        changed = [key for key in config if before["config"].get(key) != config[key]]
        raise MedsslError(
            "RESUME_MISMATCH",
            "The run to resume had another configuration, store or subjects",
            where=", ".join(changed) or "store",
            fix="Resume with what it was started with.",
        )
    return started


def remember_run(out: Path, run_id: str) -> None:
    """Note the MLflow run in ``run.json``, so that a resumed run goes on in it."""
    file = out / "run.json"
    record = json.loads(file.read_text(encoding="utf-8"))
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps({**record, "mlflow_run": run_id}, indent=2), encoding="utf-8")
    partial.rename(file)
