"""Batches made by worker processes in memory that they share with this one.

A worker writes each crop where the batch needs it; what goes through its pipe are a few numbers,
and nothing is copied or packed on the way. The memory has no name: it is gone with the last process
that holds it, however that ends, and takes nothing of a container's ``/dev/shm``.
"""

from __future__ import annotations

import atexit
import math
import multiprocessing as mp
import os
import signal
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import send_handle
from typing import Any

import numpy.typing as npt
from torch import Tensor

from medssl.errors import MedsslError
from medssl.training.slots import Memory, cuda_in_use
from medssl.training.worker import DONE, TASK, Source, told_error, work

Array = npt.NDArray[Any]

HELD = 2  # batches that the consumer may use at a time: the last it was given, and the one before
_AHEAD = 2  # batches at least that are made meanwhile, and samples per worker
_GRACE = 2.0  # seconds a worker has to end by itself


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
        memory = Memory(self._source.fields(), self._size, min(HELD, len(self)))
        try:
            for count, first in enumerate(self._firsts):
                slot = count % HELD
                memory.wait(slot)
                for place in range(self._size):
                    self._source.write(first + place, memory.arrays[slot], place)
                yield self._shown(first, memory.tensors[slot])
                memory.used(slot)
        finally:
            memory.close()

    def _shown(self, first: int, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the batch that begins with sample ``first`` has of a slot's fields."""
        part = getattr(self._source, "part", None)
        return tensors if part is None else part(first, tensors)

    def _by_workers(self) -> Iterator[Any]:
        ahead = max(_AHEAD, math.ceil(_AHEAD * self._workers / self._size))
        slots = min(HELD + ahead, len(self))
        memory = Memory(self._source.fields(), self._size, slots)
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
                yield self._shown(self._firsts[count], memory.tensors[slot])
                memory.used(slot)
        finally:
            crew.end()
            memory.close()


@dataclass
class _Worker:
    process: Any
    pipe: Connection
    waiting: int = 0  # samples


class _Crew:
    """The worker processes, and what each has still to do."""

    def __init__(self, source: Source, count: int, memory: Memory, size: int) -> None:
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
                target=work,
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
                worker.pipe.send_bytes(TASK.pack(slot, place, count, first + place))
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
                if len(answer) != DONE.size:
                    raise told_error(answer)
                done, count = DONE.unpack(answer)
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


def _method() -> str:
    """CUDA does not survive a fork; without it forking is quick and shares the source's memory."""
    return "spawn" if cuda_in_use() or "fork" not in mp.get_all_start_methods() else "fork"
