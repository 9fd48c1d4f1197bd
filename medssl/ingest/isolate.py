"""Work in processes of their own, with limits, so that a hostile file costs its own series alone.

Decoders are written in C and Rust, and a file made to harm can crash them, keep them busy for ever
or make them ask for all memory there is. Items of work are forked off in batches. A child appends
one line to a journal for each item it ends, and no object is unpickled; an item that kills its
child, or hangs, gets a line that says so, and another child goes on with the rest. The journal is
also what an interrupted run is resumed from: an item that has a line is not done again. Answers
come in the order of the items, so nothing depends on the number of workers.
"""

from __future__ import annotations

import ctypes
import errno
import multiprocessing
import os
import resource
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from medssl.errors import Exit, MedsslError
from medssl.ingest.journal import FATAL, Answer, Item, Journal, line

_FORK = multiprocessing.get_context("fork")
_BATCHES = 4  # for each worker: a long one at the end should not keep the others waiting
_MOST_FILES = 512  # in a batch: what is lost to a crash of the whole program
_POLL = 0.2


@dataclass(frozen=True)
class Limits:
    """What one item may use.

    Attributes:
        seconds: of wall time.
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


@dataclass(frozen=True)
class Pool:
    """Where work is done.

    Attributes:
        workers: how many processes run at once, at least one.
        limits: of each item.
    """

    workers: int
    limits: Limits


Work = Callable[[Any, Path], Any]
"""What a child does with each item's payload and a folder for files: it returns plain data, such as
JSON can hold."""


def run_items(
    work: Work, items: Sequence[Item], folder: Path, pool: Pool
) -> Iterator[tuple[Item, Answer]]:
    """Do work on items, several at once.

    Args:
        work: what to do.
        items: in the order in which answers are wanted.
        folder: of the journal, and of what work writes; made where missing.
        pool: where.

    Yields:
        every item and its answer. The error is what the work raised, or READER_FAILED where its
        process crashed or went beyond its limits.

    Raises:
        MedsslError: what the work raised where that is not the input's fault (DISK_FULL).
    """
    folder.mkdir(parents=True, exist_ok=True)
    journal = Journal(folder)
    rest = [item for item in items if item.key not in journal.lines]
    waiting = iter(_batches(rest, pool.workers, journal))
    running: deque[Batch] = deque()
    try:
        for item in items:
            while item.key not in journal.lines:
                while len(running) < pool.workers + _BATCHES and (new := next(waiting, None)):
                    running.append(new)
                _turn(running, work, pool)
                if running[0].ended:
                    journal.take(running.popleft().path)
            yield item, journal.answer(item.key)
    finally:
        for batch in running:
            batch.stop()


def _batches(items: Sequence[Item], workers: int, journal: Journal) -> Iterator[Batch]:
    files = sum(item.files for item in items)
    most = max(1, min(_MOST_FILES, -(-files // (workers * _BATCHES))))
    batch: list[Item] = []
    count = 0
    for item in items:
        if batch and count + item.files > most:
            yield Batch(batch, journal.new())
            batch, count = [], 0
        batch.append(item)
        count += item.files
    if batch:
        yield Batch(batch, journal.new())


def _turn(running: deque[Batch], work: Work, pool: Pool) -> None:
    """Start what may start, and wait until something changes."""
    active = [batch for batch in running if batch.active]
    for batch in running:
        if len(active) < pool.workers and not batch.active and not batch.ended:
            batch.start(work, pool.limits)
            active.append(batch)
    if not running[0].ended:
        wait([batch.sentinel for batch in active], timeout=_POLL)
        for batch in active:
            batch.look(pool.limits)


class Batch:
    """Items that one child does, one after the other."""

    def __init__(self, items: Sequence[Item], path: Path) -> None:
        self.items, self.path, self.ended = items, path, False
        self._process: Any = None
        self._size, self._since = 0, 0.0

    @property
    def active(self) -> bool:
        """Whether a child works on it."""
        return self._process is not None

    @property
    def sentinel(self) -> int:
        """What to wait for until the child has ended."""
        return int(self._process.sentinel)

    def start(self, work: Work, limits: Limits) -> None:
        """Fork a child for the items that have no line yet."""
        done = self._lines()
        if done == len(self.items):
            self.ended = True
            return
        self._work, self._size, self._since = work, self._bytes(), time.monotonic()
        args = (work, self.items[done:], self.path, limits.bytes, os.getpid())
        self._process = _FORK.Process(target=_child, args=args)
        self._process.start()

    def look(self, limits: Limits) -> None:
        """See whether the child has ended, or must be ended."""
        if self._process.is_alive():
            if (size := self._bytes()) != self._size:
                self._size, self._since = size, time.monotonic()
            item = self.items[min(self._lines(), len(self.items) - 1)]
            allowed = limits.seconds + limits.seconds_per_file * item.files
            if time.monotonic() - self._since <= allowed:
                return
            self.stop()
            if self._bytes() == self._size:  # else it ended just now
                self._fail("Reading took too long")
        else:
            code = self._process.exitcode
            self._process.join()
            self._process = None
            if code != 0:
                self._fail(f"Reading crashed (exit code {code})")
            else:
                self.ended = True
        if not self.ended:
            self.start(self._work, limits)

    def stop(self) -> None:
        """End the child, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None

    def _fail(self, why: str) -> None:
        """Write the line of the item that the child could not end."""
        lines = self.path.read_bytes() if self.path.exists() else b""
        whole = lines[: lines.rfind(b"\n") + 1]
        done = whole.count(b"\n")
        if done < len(self.items):
            whole += line(self.items[done].key, None, ("READER_FAILED", why))
            self.path.write_bytes(whole)

    def _bytes(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def _lines(self) -> int:
        return self.path.read_bytes().count(b"\n") if self.path.exists() else 0


def _child(work: Work, items: Iterable[Item], path: Path, memory: int, parent: int) -> None:
    _die_with(parent)
    # Decoders write to the terminal what they please, and it could be a patient's.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    if memory:
        resource.setrlimit(resource.RLIMIT_DATA, (_data_bytes() + memory,) * 2)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for item in items:
        value, error = caught(partial(work, item.payload, path.parent))
        if error is not None and error.exit_code is not Exit.SOME_REJECTED:
            os.write(handle, line(FATAL, None, error))
            break
        os.write(handle, line(item.key, value, error))
    os._exit(0)  # nothing of the parent's is to be closed or flushed twice


def caught(work: Callable[[], Any]) -> tuple[Any, MedsslError | None]:
    """What work returns, or the error it ends with, whatever it raises; no text of others'."""
    try:
        return work(), None
    except MedsslError as raised:
        return None, raised
    except MemoryError:
        return None, MedsslError("READER_FAILED", "It does not fit in memory")
    except OSError as raised:
        if raised.errno in (errno.ENOSPC, errno.EDQUOT):
            return None, MedsslError("DISK_FULL", "The disk is full")
        return None, MedsslError("FILE_UNREADABLE", f"Reading: {type(raised).__name__}")
    except Exception as raised:
        return None, MedsslError("READER_FAILED", f"Reading ended with {type(raised).__name__}")


def _die_with(parent: int) -> None:
    """A child whose parent was killed must not write beside the one that resumes its work."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)


def _data_bytes() -> int:
    """What this process has of the memory that RLIMIT_DATA counts."""
    for text in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if text.startswith("VmData:"):
            return int(text.split()[1]) * 1024
    return 2**32
