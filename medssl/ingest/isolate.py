"""Jobs in processes of their own, with limits, so that a hostile file costs its own series alone.

Decoders are written in C and Rust, and a file made to harm can crash them, keep them busy for ever
or make them ask for all memory there is. Each job is forked, writes what it made as plain arrays
into a scratch folder, and is read from there; no object is unpickled. Results come in the order of
the jobs, so a store does not depend on the number of workers.
"""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import resource
import shutil
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medssl.errors import MedsslError
from medssl.ingest.jobs import Job, Made
from medssl.store import VolumeRecord

_FORK = multiprocessing.get_context("fork")
_DONE = "done.json"


@dataclass(frozen=True)
class Limits:
    """What one job may use.

    Attributes:
        seconds: of wall time for a job.
        seconds_per_file: beside that, for each of its files.
        bytes: of memory, above what the program has already; 0 for any amount.
    """

    seconds: float = 300.0
    seconds_per_file: float = 1.0
    bytes: int = 0

    @classmethod
    def of_this_machine(cls, workers: int) -> Limits:
        """Three quarters of the memory that this machine or container has, shared by workers."""
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        container = Path("/sys/fs/cgroup/memory.max")
        if (
            container.is_file()
            and (text := container.read_text(encoding="ascii").strip()).isdigit()
        ):
            total = min(total, int(text))
        return cls(bytes=max(2**30, int(0.75 * total / workers)))


def run_jobs(
    jobs: Iterable[Job], scratch: Path, workers: int, limits: Limits
) -> Iterator[tuple[Job, Iterator[Made]]]:
    """Run jobs, those that ask for it in processes of their own.

    Args:
        jobs: in the order in which results are wanted.
        scratch: a folder for what is on its way.
        workers: how many processes run at once, at least one.
        limits: of each.

    Yields:
        each job with what it makes, to be read before the next is asked for. Reading raises what
        the job raises, and READER_FAILED where its process crashed or went beyond its limits.
    """
    waiting, running = iter(enumerate(jobs)), deque[_Running]()
    try:
        while True:
            while len(running) < workers and (item := next(waiting, None)) is not None:
                running.append(_Running(item[1], scratch / str(item[0]), limits))
            if not running:
                return
            yield running[0].job, running[0].results()
            running.popleft().end()
    finally:
        for one in running:
            one.end()


class _Running:
    """A job that may be on its way."""

    def __init__(self, job: Job, folder: Path, limits: Limits) -> None:
        self.job, self._folder = job, folder
        self._process: Any = None
        if job.isolated:
            folder.mkdir(parents=True)
            allowed = limits.seconds + limits.seconds_per_file * len(job.files)
            self._until = time.monotonic() + allowed
            self._process = _FORK.Process(target=_child, args=(job, folder, limits.bytes))
            self._process.start()

    def results(self) -> Iterator[Made]:
        if self._process is None:
            yield from self.job.make()
            return
        self._process.join(max(0.0, self._until - time.monotonic()))
        if self._process.is_alive():
            raise MedsslError("READER_FAILED", "Reading took too long")
        done = self._folder / _DONE
        if not done.is_file():
            code = self._process.exitcode
            raise MedsslError("READER_FAILED", f"Reading crashed (exit code {code})")
        answer = json.loads(done.read_text(encoding="utf-8"))
        for number in range(answer["made"]):
            yield _load(self._folder / str(number))
        if answer["error"]:
            raise MedsslError(*answer["error"])

    def end(self) -> None:
        """Stop it if it still runs, and remove what it left."""
        if self._process is not None:
            if self._process.is_alive():
                self._process.kill()
            self._process.join()
            shutil.rmtree(self._folder, ignore_errors=True)


def _child(job: Job, folder: Path, memory: int) -> None:
    # Decoders write to the terminal what they please, and it could be a patient's.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    if memory:
        resource.setrlimit(resource.RLIMIT_DATA, (_data_bytes() + memory,) * 2)
    made, error = 0, None
    try:
        for item in job.make():
            _save(folder / str(made), item)
            made += 1
    except MedsslError as raised:
        error = (raised.code, raised.what)
    except MemoryError:
        error = ("READER_FAILED", "It does not fit in memory")
    except OSError as raised:
        full = raised.errno in (errno.ENOSPC, errno.EDQUOT)
        text = f"Reading: {type(raised).__name__}"
        error = ("DISK_FULL", "The disk is full") if full else ("FILE_UNREADABLE", text)
    except Exception as raised:
        error = ("READER_FAILED", f"Reading ended with {type(raised).__name__}")
    (folder / _DONE).write_text(json.dumps({"made": made, "error": error}), encoding="utf-8")
    os._exit(0)  # nothing of the parent's is to be closed or flushed twice


def _data_bytes() -> int:
    """What this process has of the memory that RLIMIT_DATA counts."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    return 2**32


def _save(folder: Path, made: Made) -> None:
    folder.mkdir()
    np.save(folder / "array.npy", made.array, allow_pickle=False)
    if made.label is not None:
        np.save(folder / "label.npy", made.label, allow_pickle=False)
    rest = {
        "record": asdict(made.record),
        "affine": None if made.affine is None else made.affine.tolist(),
        "content": made.content,
        "pixel_spacing": made.pixel_spacing,
        "structures": made.structures,
        "fates": made.fates,
    }
    (folder / "made.json").write_text(json.dumps(rest), encoding="utf-8")


def _load(folder: Path) -> Made:
    rest = json.loads((folder / "made.json").read_text(encoding="utf-8"))
    label, spacing, affine = folder / "label.npy", rest["pixel_spacing"], rest["affine"]
    return Made(
        record=VolumeRecord(**rest["record"]),
        array=np.load(folder / "array.npy", allow_pickle=False),
        affine=None if affine is None else np.array(affine),
        content=rest["content"],
        label=np.load(label, allow_pickle=False) if label.is_file() else None,
        pixel_spacing=None if spacing is None else (spacing[0], spacing[1]),
        structures=rest["structures"],
        fates={path: (code, detail) for path, (code, detail) in rest["fates"].items()},
    )
