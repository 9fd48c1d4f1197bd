"""A run's folder: ``run.json`` says what it was started with, so that only that is resumed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medssl.config import M
from medssl.errors import MedsslError
from medssl.training.settings import FREE_KEYS

LASTING = ("wsd", "constant")  # schedules that can go on beyond their steps


def open_folder(
    out: Path, config: Mapping[str, Any], fingerprint: str, subjects: Sequence[str], resume: bool
) -> str:
    """Make the run's folder, or check the one to resume.

    Args:
        out: the folder.
        config: the resolved configuration, as JSON has it.
        fingerprint: of the store.
        subjects: pseudonyms of those trained on.
        resume: the folder must exist and have been started with the same; devices may differ, and
            with a schedule that lasts there may be more steps, and then other scans.

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
    before = started_with(out)
    changed = {
        key
        for key in {*config, *before["config"]} - FREE_KEYS
        if before["config"].get(key) != config.get(key)
    }
    if changed == {"steps"} and config["steps"] > before["config"]["steps"]:
        _lengthen(out, before, record)
    elif changed or any(before[key] != record[key] for key in ("data_fingerprint", "subjects")):
        raise MedsslError(
            "RESUME_MISMATCH",
            "The run to resume had another configuration, store or subjects",
            where=", ".join(sorted(changed)) or "store",
            fix="Resume with what it was started with; more steps may come with more scans.",
        )
    return str(before.get("mlflow_run", ""))


def _lengthen(out: Path, before: Mapping[str, Any], record: Mapping[str, Any]) -> None:
    """Give a run more steps, on the scans there are now; remember whom it has seen."""
    if before["config"]["schedule"] not in LASTING:
        raise MedsslError(
            "RESUME_MISMATCH",
            f"A {before['config']['schedule']} schedule ends with its steps",
            where="steps",
            fix=f"Only schedule={' or '.join(LASTING)} goes on.",
        )
    earlier = {*before.get("earlier_subjects", []), *before["subjects"]}
    kept = {
        "mlflow_run": before.get("mlflow_run", ""),
        "earlier_subjects": sorted(earlier),
        "earlier_steps": before["config"]["steps"],
    }
    _write(out, {**record, **kept})


def earlier_subjects(out: Path) -> list[str]:
    """Pseudonyms of those the run trained on before it was given more steps."""
    return list(started_with(out).get("earlier_subjects", []))


def more_steps(out: Path, overrides: Sequence[str]) -> list[str]:
    """Overrides with ``steps=+N`` as the number of steps that the run in ``out`` then has.

    N counts from the end of the last finished part, so that the same command, given again after an
    interruption, means the same.
    """
    found = []
    for text in overrides:
        if text.startswith("steps=+") and text.removeprefix("steps=+").isdecimal():
            before = started_with(out)
            steps = int(before["config"]["steps"])
            if not _finished(out, steps):
                steps = int(before.get("earlier_steps", 0))
            text = f"steps={steps + int(text.removeprefix('steps=+'))}"
        found.append(text)
    return found


def as_before(out: Path, config: M, keys: Sequence[str]) -> M:
    """``config`` with what the run in ``out`` had for those of ``keys`` that are None; ``a.b`` is
    ``b`` of ``a``.

    What the store decided when the run began stays, though the store may have grown since.
    """
    had, values = started_with(out)["config"], config.model_dump()
    for key in keys:
        *path, last = key.split(".")
        before, now = had, values
        for name in path:
            before, now = before.get(name) or {}, now.get(name) or {}
        if last in before and now.get(last) is None:
            now[last] = before[last]
    return type(config).model_validate(values)


def _finished(out: Path, steps: int) -> bool:
    """Whether the bundle of a run of this many steps is there."""
    file = out / "bundle" / "bundle.json"
    if not file.is_file():
        return False
    return bool(json.loads(file.read_text(encoding="utf-8"))["config"].get("steps") == steps)


def remember_run(out: Path, run_id: str) -> None:
    """Note the MLflow run in ``run.json``, so that a resumed run goes on in it."""
    _write(out, {**started_with(out), "mlflow_run": run_id})


def started_with(out: Path) -> dict[str, Any]:
    """What a run was started with: ``config``, ``data_fingerprint``, ``subjects``.

    Raises:
        MedsslError: INPUT_MISSING.
    """
    file = out / "run.json"
    if not file.is_file():
        raise MedsslError("INPUT_MISSING", "There is no run in the folder", where=out.name)
    record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return record


def _write(out: Path, record: Mapping[str, Any]) -> None:
    partial = out / "run.partial"
    partial.write_text(json.dumps(record, indent=2), encoding="utf-8")
    partial.replace(out / "run.json")
