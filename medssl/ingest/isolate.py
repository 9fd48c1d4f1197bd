"""Work in processes of their own, with limits, so that a hostile file costs its own series alone.

Decoders are written in C and Rust, and a file made to harm can crash them, keep them busy for ever
or make them ask for all memory there is. A child does a batch of items and appends one line to a
journal for each that it ends; no object is unpickled. An item that kills its child, or hangs, gets
a line that says so, and another child goes on with the rest.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from select import select
from typing import Any, NoReturn

from medssl.errors import Exit, MedsslError
from medssl.ingest.journal import FATAL, Item, line

POLL = 0.2


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


Work = Callable[[Any, Path], Any]
"""What a child does with each item's payload and a folder for files: it returns plain data, such as
JSON can hold."""


class Batch:
    """Items that one child does, one after the other."""

    def __init__(self, items: Sequence[Item], path: Path) -> None:
        self.items, self.path, self.ended = items, path, False
        self._child, self._end = 0, -1
        self._size, self._since = 0, 0.0

    @property
    def active(self) -> bool:
        """Whether a child works on it."""
        return self._child != 0

    @property
    def sentinel(self) -> int:
        """A file descriptor that can be read when the child has ended."""
        return self._end

    def start(self, work: Work, limits: Limits) -> None:
        """Fork a child for the items that have no line yet."""
        done = self._lines()
        if done == len(self.items):
            self.ended = True
            return
        self._work, self._size, self._since = work, self._bytes(), time.monotonic()
        parent, (self._end, alive) = os.getpid(), os.pipe()
        self._child = os.fork()
        if self._child == 0:
            _do(work, self.items[done:], self.path, limits.bytes, parent)
        os.close(alive)  # the child alone holds it now, and it closes when that ends

    def look(self, limits: Limits) -> None:
        """See whether the child has ended, or must be ended."""
        ending = bool(select([self._end], [], [], 0)[0])
        child, status = os.waitpid(self._child, 0 if ending else os.WNOHANG)
        if not child:
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
            self._forget()
            code = os.waitstatus_to_exitcode(status)
            if code != 0:
                self._fail(f"Reading crashed (exit code {code})")
            else:
                self.ended = True
        if not self.ended:
            self.start(self._work, limits)

    def stop(self) -> None:
        """End the child, if there is one."""
        if self._child:
            os.kill(self._child, signal.SIGKILL)
            os.waitpid(self._child, 0)
            self._forget()

    def _forget(self) -> None:
        os.close(self._end)
        self._child, self._end = 0, -1

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


def do_batch(work: Work, items: Sequence[Item], path: Path, limits: Limits) -> None:
    """Do a batch on this machine, wherever that is."""
    batch = Batch(items, path)
    batch.start(work, limits)
    try:
        while not batch.ended:
            select([batch.sentinel], [], [], POLL)
            batch.look(limits)
    finally:
        batch.stop()


def _do(work: Work, items: Iterable[Item], path: Path, memory: int, parent: int) -> NoReturn:
    """What a child does. Nothing it raises may reach the code that the parent goes on with."""
    try:
        _do_all(work, items, path, memory, parent)
    finally:
        os._exit(1)  # nothing of the parent's is to be closed or flushed twice


def _do_all(work: Work, items: Iterable[Item], path: Path, memory: int, parent: int) -> NoReturn:
    _die_with(parent)
    _compute_alone()
    # Decoders write to the terminal what they please, and it could be a patient's.
    for terminal in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), terminal)
    if memory:
        resource.setrlimit(resource.RLIMIT_DATA, (_data_bytes() + memory,) * 2)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for item in items:
        value, error = caught(partial(work, item.payload, path.parent))
        if error is not None and error.exit_code is not Exit.SOME_REJECTED:
            os.write(handle, line(FATAL, None, error))
            break
        os.write(handle, line(item.key, value, error))
    os._exit(0)


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


def _compute_alone() -> None:
    """One thread for linear algebra in what is imported from now on: children are as many as the
    cores, and threads of several that wait for each other take longer than the work."""
    os.environ.update(dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))


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
