"""The results folder: its status file, and case folders that appear whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medssl.errors import Exit, MedsslError

FORMAT_VERSION = 1
STATUS, CASES, PREDICTIONS = "status.json", "cases", "predictions.csv"


@dataclass(frozen=True)
class CaseOutcome:
    """What became of one case: ``written`` or ``rejected``; `files` are relative to OUT.

    A written case with a code lacks something: SEG_NOT_WRITTEN.
    """

    case_id: str
    outcome: str
    code: str = ""
    detail: str = ""
    files: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class PredictSummary:
    """What a run of predict did.

    Attributes:
        task: "segmentation" or "classification".
        exit_code: 0 all done, 3 some rejected or incomplete, 4 nothing written, 6 a label map
            had moved.
        cases: one outcome per case found.
        ignored: files that are no images.
        out: the results folder.
    """

    task: str
    exit_code: int
    cases: list[CaseOutcome]
    ignored: int
    out: Path

    @property
    def written(self) -> int:
        """How many cases were predicted."""
        return sum(case.outcome == "written" for case in self.cases)

    @property
    def rejected(self) -> int:
        """How many cases were refused or failed."""
        return len(self.cases) - self.written

    @property
    def state(self) -> str:
        """ "done", "partial" (some cases rejected) or "failed"."""
        names = {Exit.DONE: "done", Exit.SOME_REJECTED: "partial"}
        return names.get(Exit(self.exit_code), "failed")

    def as_dict(self) -> dict[str, Any]:
        """For ``--json`` and the status file."""
        return {
            "state": self.state,
            "exit_code": int(self.exit_code),
            "task": self.task,
            "found": len(self.cases),
            "written": self.written,
            "rejected": self.rejected,
            "ignored": self.ignored,
            "cases": [asdict(case) for case in self.cases],
        }


def exit_code_of(cases: Sequence[CaseOutcome]) -> Exit:
    """The exit code of a run that ended: an integrity failure outranks the rest."""
    if any(case.code == "PREDICTION_MOVED" for case in cases):
        return Exit.INTEGRITY
    written = sum(case.outcome == "written" for case in cases)
    if not written:
        return Exit.NOTHING_USABLE
    return Exit.SOME_REJECTED if any(case.code for case in cases) else Exit.DONE


class StatusFile:
    """``status.json`` of one run: "running" from the start, and how it ended."""

    def __init__(self, out: Path, task: str, bundle_sha256: str) -> None:
        self._path = out / STATUS
        self._fixed = {
            "format_version": FORMAT_VERSION,
            "task": task,
            "bundle_sha256": bundle_sha256,
            "started": _now(),
        }

    def running(self) -> None:
        """Say that the run has begun."""
        self._write({"state": "running", "exit_code": None, "finished": None, "cases": []})

    def failed(self, exit_code: int, cases: Sequence[CaseOutcome]) -> None:
        """Say that the run broke off, and what it had done."""
        done = [asdict(case) for case in cases]
        end = {"state": "failed", "exit_code": int(exit_code), "finished": _now(), "cases": done}
        # On a full disk "running" has to stay; what broke the run off must not be hidden by it.
        with suppress(OSError):
            self._write(end)

    def ended(self, summary: PredictSummary) -> None:
        """Say how the run ended."""
        self._write({**summary.as_dict(), "finished": _now()})

    def _write(self, changing: Mapping[str, Any]) -> None:
        cases = changing["cases"]
        done = sum(case["outcome"] == "written" for case in cases)
        counts = {"found": len(cases), "written": done, "rejected": len(cases) - done, "ignored": 0}
        write_atomically(
            self._path, json.dumps({**self._fixed, **counts, **changing}, indent=2) + "\n"
        )


def prepare_out(out: Path) -> None:
    """Make the results folder; it may exist only if it is empty.

    Raises:
        MedsslError: OUT_EXISTS.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise MedsslError(
            "OUT_EXISTS",
            "The results folder already holds something",
            where="OUT",
            fix="Give another name, or move the old results away.",
        )
    out.mkdir(parents=True, exist_ok=True)


@contextmanager
def case_folder(out: Path, case_id: str) -> Iterator[Path]:
    """A folder to write one case into, renamed to its name at the end, removed on any failure."""
    cases = out / CASES
    partial = cases / f".{case_id}.partial"
    partial.mkdir(parents=True)
    try:
        yield partial
        partial.rename(cases / case_id)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_atomically(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
