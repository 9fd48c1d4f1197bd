"""Batches made by worker processes in memory that they share with this one.

A worker writes each crop where the batch needs it; what goes through its pipe are a few numbers,
and nothing is copied or packed on the way. The memory has no name: it is gone with the last process
that holds it, however that ends, and takes nothing of a container's ``/dev/shm``.
"""

from __future__ import annotations

import atexit
import json
import math
import mmap
import multiprocessing as mp
import os
import signal
import struct
import tempfile
import traceback
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import recv_handle, send_handle
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from medssl.errors import MedsslError

Array = npt.NDArray[Any]
Fields = dict[str, tuple[tuple[int, ...], np.dtype[Any]]]

HELD = 2  # batches that the consumer may use at a time: the last it was given, and the one before
_AHEAD = 2  # batches at least that are made meanwhile, and samples per worker
_ALIGN = 4096  # bytes
_TASK = struct.Struct("<qqqq")  # slot, first place in it, how many, number of the first sample
_DONE = struct.Struct("<qq")  # slot, how many
_ORPHAN_CHECK = 2.0  # seconds
_GRACE = 2.0  # seconds a worker has to end by itself


class Source(Protocol):
    """What makes samples: :class:`medssl.training.data.CropSource`."""

    def fields(self) -> Fields:
        """Shape and dtype of what one sample has."""
        ...

    def write(self, number: int, batch: Mapping[str, Array], place: int) -> None:
        """Write sample ``number`` into place ``place`` of a batch."""
        ...


def loader(
    source: Source,
    batch_size: int,
    first_step: int,
    steps: int,
    workers: int,
    *,
    rank: int = 0,
    world: int = 1,
    accumulate: int = 1,
) -> Batches:
    """Batches of steps ``first_step`` to ``steps - 1`` of a run.

    Step s has samples [s * batch_size, (s + 1) * batch_size), whatever the number of processes:
    each takes an equal, contiguous share of them, and of that each micro-step one.

    A batch may be used until the next but one is asked for; then its memory is written anew. On
    a GPU the memory is pinned, and copies of it that were started on the current stream before the
    next batch was asked for are waited for.

    Args:
        source: makes the samples.
        batch_size: samples of one optimiser step, of all processes and micro-steps together.
        first_step: the step to begin with, 0 for a new run.
        steps: of the whole run.
        workers: processes that read; 0 reads in this one.
        rank: of this process.
        world: processes that train.
        accumulate: micro-steps of a step.

    Raises:
        MedsslError: CONFIG_INVALID where the batch does not divide; while iterating WORKER_LOST,
            OUT_OF_MEMORY, and what the source raises.
    """
    parts = world * accumulate
    if batch_size % parts:
        raise MedsslError(
            "CONFIG_INVALID",
            f"A batch of {batch_size} does not divide into {parts} equal parts",
            where="batch_size",
            fix="It is for one optimiser step of all processes and micro-steps together.",
        )
    share = batch_size // parts
    firsts = [
        step * batch_size + (rank * accumulate + micro) * share
        for step in range(first_step, steps)
        for micro in range(accumulate)
    ]
    return Batches(source, share, firsts, workers)


class Batches:
    """Batches in order, made as they are iterated over; workers end with the iteration."""

    def __init__(self, source: Source, size: int, firsts: list[int], workers: int) -> None:
        self._source, self._size, self._firsts, self._workers = source, size, firsts, workers

    def __len__(self) -> int:
        """Batches altogether."""
        return len(self._firsts)

    def __iter__(self) -> Iterator[Any]:
        """Batches (:class:`medssl.training.data.Batch`) on the host."""
        return self._here() if self._workers == 0 else self._by_workers()

    def _here(self) -> Iterator[Any]:
        memory = _Memory(self._source.fields(), self._size, min(HELD, len(self)))
        try:
            for count, first in enumerate(self._firsts):
                slot = count % HELD
                memory.wait(slot)
                for place in range(self._size):
                    self._source.write(first + place, memory.arrays[slot], place)
                yield memory.tensors[slot]
                memory.used(slot)
        finally:
            memory.close()

    def _by_workers(self) -> Iterator[Any]:
        ahead = max(_AHEAD, math.ceil(_AHEAD * self._workers / self._size))
        slots = min(HELD + ahead, len(self))
        memory = _Memory(self._source.fields(), self._size, slots)
        crew = _Crew(self._source, self._workers, memory, self._size)
        try:
            crew.start()
            waiting = deque(enumerate(self._firsts))
            for slot in range(slots):
                crew.ask(slot, waiting.popleft()[1])
            for count in range(len(self)):
                slot = count % slots
                if count >= HELD and waiting:
                    _, first = waiting.popleft()
                    free = (count - HELD) % slots
                    memory.wait(free)
                    crew.ask(free, first)
                crew.finish(slot)
                yield memory.tensors[slot]
                memory.used(slot)
        finally:
            crew.end()
            memory.close()


class _Memory:
    """Slots for batches in one piece of shared memory without a name.

    Attributes:
        fd: of the memory.
        arrays, tensors: by slot and field, the same memory.
    """

    def __init__(self, fields: Fields, size: int, slots: int) -> None:
        self._layout, total = _layout(fields, size, slots)
        self.fd = _anonymous(total)
        self._map = mmap.mmap(self.fd, total)
        self.arrays = _views(self._map, self._layout)
        self.tensors = [
            {name: torch.from_numpy(array) for name, array in slot.items()} for slot in self.arrays
        ]
        self._events: list[Any] = [None] * slots
        self._pinned = 0
        if _cuda_in_use() and slots:
            # Pinned where it lies: a copy to the device then needs no other, and is not waited for.
            start = np.frombuffer(self._map, np.uint8).ctypes.data
            if int(_cudart().cudaHostRegister(start, total, 0)) == 0:
                self._pinned = start

    @property
    def layout(self) -> _Layout:
        """Where each array begins."""
        return self._layout

    def used(self, slot: int) -> None:
        """The consumer asks for another batch: what it started with this one is in the stream."""
        if self._pinned:
            self._events[slot] = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._events[slot].record()

    def wait(self, slot: int) -> None:
        """Until nothing reads the slot any more."""
        if self._events[slot] is not None:
            self._events[slot].synchronize()

    def close(self) -> None:
        """Give the memory back, as soon as no tensor of a batch is left."""
        for slot in range(len(self._events)):
            self.wait(slot)
        if self._pinned:
            torch.cuda.synchronize()
            _cudart().cudaHostUnregister(self._pinned)
            self._pinned = 0
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


_Layout = list[dict[str, tuple[int, tuple[int, ...], str]]]


def _layout(fields: Fields, size: int, slots: int) -> tuple[_Layout, int]:
    """Where each array of each slot begins, its shape and dtype; and the bytes of all."""
    layout: _Layout = []
    place = 0
    for _ in range(slots):
        slot = {}
        for name, (shape, dtype) in fields.items():
            slot[name] = (place, (size, *shape), dtype.str)
            place += -(-math.prod((size, *shape)) * dtype.itemsize // _ALIGN) * _ALIGN
        layout.append(slot)
    return layout, max(place, _ALIGN)


def _views(memory: mmap.mmap, layout: _Layout) -> list[dict[str, Array]]:
    return [
        {
            name: np.frombuffer(memory, dtype, math.prod(shape), offset).reshape(shape)
            for name, (offset, shape, dtype) in slot.items()
        }
        for slot in layout
    ]


def _anonymous(count: int) -> int:
    """A file descriptor of so many bytes of memory, where there are as many."""
    if count > _available():
        raise MedsslError(
            "OUT_OF_MEMORY",
            f"There is no memory for batches on their way: {count / 2**20:.0f} MiB",
            fix="Lower batch_size, patch_size or workers.",
        )
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("medssl-ring")
    else:
        with tempfile.TemporaryFile() as stream:  # has no name either
            fd = os.dup(stream.fileno())
    os.truncate(fd, count)
    return fd


def _available() -> float:
    """Bytes of memory that can still be had, of the machine or of the container."""
    found = [float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))]
    group = Path("/sys/fs/cgroup")
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found += [float(line.split()[1]) * 1024 for line in lines if "MemAvailable" in line]
        limit, used = ((group / f"memory.{name}").read_text() for name in ("max", "current"))
        found.append(float(limit) - float(used))
    except (OSError, ValueError):
        return min(found)  # no Linux, or a group without a limit
    return min(found)


@dataclass
class _Worker:
    process: Any
    pipe: Connection
    waiting: int = 0  # samples


class _Crew:
    """The worker processes, and what each has still to do."""

    def __init__(self, source: Source, count: int, memory: _Memory, size: int) -> None:
        self._source, self._count, self._memory, self._size = source, count, memory, size
        self._workers: list[_Worker] = []
        self._missing = [0] * len(memory.arrays)

    def start(self) -> None:
        """Start them, each with the memory and a pipe of its own."""
        context: Any = mp.get_context(_method())
        # Where an error leaves the iteration open until the program ends, before multiprocessing
        # waits for them.
        atexit.register(self.end)
        for _ in range(self._count):
            pipe, far = context.Pipe(duplex=True)
            others = [worker.pipe for worker in self._workers] + [pipe]
            inherited = others if context.get_start_method() == "fork" else []
            process = context.Process(
                target=_work,
                args=(far, inherited, self._source, self._memory.layout, os.getpid()),
                daemon=True,
            )
            process.start()
            far.close()
            self._workers.append(_Worker(process, pipe))
            try:
                send_handle(pipe, self._memory.fd, process.pid)
            except OSError:
                self._lost(self._workers[-1])

    def ask(self, slot: int, first: int) -> None:
        """Have a batch made: every worker gets a part, the more the less it has still to do.

        One message a part: a worker's pipe never fills, whatever the size of a batch.
        """
        total = self._size + sum(worker.waiting for worker in self._workers)
        level, place = -(-total // self._count), 0
        for worker in sorted(self._workers, key=lambda w: w.waiting):
            count = min(max(level - worker.waiting, 0), self._size - place)
            if not count:
                continue
            try:
                worker.pipe.send_bytes(_TASK.pack(slot, place, count, first + place))
            except OSError:
                self._lost(worker)
            worker.waiting += count
            place += count
        self._missing[slot] = self._size

    def finish(self, slot: int) -> None:
        """Wait until a batch is whole.

        Raises:
            MedsslError: what a worker raised; WORKER_LOST where one has ended.
        """
        pipes = {worker.pipe: worker for worker in self._workers}
        while self._missing[slot]:
            for pipe in wait(list(pipes)):
                worker = pipes[pipe]  # type: ignore[index]
                try:
                    answer = worker.pipe.recv_bytes()
                except (EOFError, OSError):
                    self._lost(worker)
                if len(answer) != _DONE.size:
                    raise _error(answer)
                done, count = _DONE.unpack(answer)
                self._missing[done] -= count
                worker.waiting -= count

    def _lost(self, worker: _Worker) -> None:
        worker.process.join(_GRACE)
        code = worker.process.exitcode
        how = f"signal {signal.Signals(-code).name}" if code and code < 0 else f"exit code {code}"
        raise MedsslError(
            "WORKER_LOST",
            f"A process that reads crops ended by {how}",
            where="workers",
            fix="Killed by the system it often is for memory: lower workers, or use workers=0.",
        )

    def end(self) -> None:
        """End them all: they leave when their pipe closes, and are killed when they do not."""
        for worker in self._workers:
            worker.pipe.close()
        for worker in self._workers:
            worker.process.join(_GRACE)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.process.close()
        self._workers = []
        atexit.unregister(self.end)


def _cuda_in_use() -> bool:
    return torch.cuda.is_available() and bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def _method() -> str:
    """CUDA does not survive a fork; without it forking is quick and shares the source's memory."""
    return "spawn" if _cuda_in_use() or "fork" not in mp.get_all_start_methods() else "fork"


def _cudart() -> Any:
    return torch.cuda.cudart()  # type: ignore[no-untyped-call]


def _work(
    pipe: Connection, inherited: list[Connection], source: Source, layout: _Layout, parent: int
) -> None:
    """What a worker does until its pipe closes or its parent is gone."""
    for end in (signal.SIGINT, signal.SIGTERM):
        signal.signal(end, signal.SIG_IGN)  # they are the parent's to follow, which then ends us
    for other in inherited:
        other.close()  # or none of us would see that the parent is gone
    fd = recv_handle(pipe)
    memory = mmap.mmap(fd, 0)
    os.close(fd)
    slots = _views(memory, layout)
    try:
        while True:
            while not pipe.poll(_ORPHAN_CHECK):
                if os.getppid() != parent:
                    return
            task = _TASK.unpack(pipe.recv_bytes())
            pipe.send_bytes(_answer(source, slots, *task))
    except (EOFError, OSError):
        return


def _answer(
    source: Source,
    slots: list[dict[str, Array]],
    slot: int,
    place: int,
    count: int,
    number: int,
) -> bytes:
    try:
        for i in range(count):
            source.write(number + i, slots[slot], place + i)
    except MedsslError as error:
        return _told(error.code, error.what, error.where, error.fix)
    except Exception as error:
        # Its text may name a file; where it was raised does not.
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{type(error).__name__} in {Path(last.filename).name}:{last.lineno}"
        text = "A process that reads crops failed"
        fix = "Report it as a bug of medssl, if it is not for lack of memory."
        return _told("WORKER_LOST", text, where, fix)
    return _DONE.pack(slot, count)


def _told(*words: str) -> bytes:
    return json.dumps(words).encode()


def _error(answer: bytes) -> MedsslError:
    code, what, where, fix = json.loads(answer)
    return MedsslError(code, what, where=where, fix=fix)
