"""Many items of work, several at once, on this machine or on those of a cluster.

The journal of what is done is also what an interrupted run goes on from: an item that has a line
is not done again. Answers come in the order of the items, so nothing depends on the number of
workers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from select import select

from threadpoolctl import threadpool_limits

from medssl.cluster import Cluster
from medssl.errors import MedsslError
from medssl.ingest.isolate import POLL, Batch, Limits, Work, do_batch
from medssl.ingest.journal import Answer, Item, Journal


class RemoteBatch(Batch):
    """Items that a machine of a cluster does, in a child of its own there."""

    def __init__(self, items: Sequence[Item], path: Path, cluster: Cluster) -> None:
        super().__init__(items, path)
        self._cluster, self.task = cluster, None

    @property
    def active(self) -> bool:
        return self.task is not None

    def start(self, work: Work, limits: Limits) -> None:
        self.task = self._cluster.submit(do_batch, work, self.items, self.path, limits)

    def look(self, limits: Limits) -> None:
        error = self._cluster.error(self.task)
        if error:
            raise MedsslError("SCHEDULER_UNAVAILABLE", f"The cluster gave a batch up: {error}")
        if error is not None:
            self.ended, self.task = True, None

    def stop(self) -> None:
        if self.task is not None:
            self._cluster.cancel(self.task)


@dataclass(frozen=True)
class Pool:
    """Where work is done.

    Attributes:
        workers: how many processes run at once, at least one.
        limits: of each item.
        cluster: whose machines do it; this one where None.
        batches: for each worker: a long one at the end should not keep the others waiting.
        most_files: in a batch.
    """

    workers: int
    limits: Limits
    cluster: Cluster | None = None
    batches: int = 3
    most_files: int = 512

    def batch(self, items: Sequence[Item], path: Path) -> Batch:
        """A batch that is done here or there."""
        if self.cluster is None:
            return Batch(items, path)
        return RemoteBatch(items, path, self.cluster)

    def wait(self, batches: Sequence[Batch]) -> None:
        """Wait a little, or until one of the active batches has ended."""
        if self.cluster is None:
            select([batch.sentinel for batch in batches], [], [], POLL)
        else:
            tasks = [batch.task for batch in batches if isinstance(batch, RemoteBatch)]
            self.cluster.wait(tasks, POLL)


def run_items(
    work: Work, items: Sequence[Item], folder: Path, pool: Pool
) -> Iterator[tuple[Item, Answer]]:
    """Do work on items, several at once.

    Args:
        work: what to do.
        items: in the order in which answers are wanted.
        folder: of the journal, and of what work writes; made where missing.
        pool: where.

    Returns:
        every item and its answer; the first are already being worked on. The error is what the work
        raised, or READER_FAILED where its process crashed or went beyond its limits.

    Raises:
        MedsslError: what the work raised where that is not the input's fault (DISK_FULL).
    """
    folder.mkdir(parents=True, exist_ok=True)
    journal = Journal(folder)
    rest = [item for item in items if item.key not in journal.lines]
    waiting = iter(_batches(rest, pool, journal))
    running = deque(islice(waiting, pool.workers + pool.batches))
    alone = threadpool_limits(1)  # inherited by the children; see isolate
    _start(running, work, pool)
    return _answers(work, items, pool, journal, running, waiting, alone)


def _answers(
    work: Work,
    items: Sequence[Item],
    pool: Pool,
    journal: Journal,
    running: deque[Batch],
    waiting: Iterator[Batch],
    alone: threadpool_limits,
) -> Iterator[tuple[Item, Answer]]:
    try:
        for item in items:
            while item.key not in journal.lines:
                _turn(running, work, pool)
                if running[0].ended:
                    journal.take(running.popleft().path)
                    running.extend(islice(waiting, 1))
            yield item, journal.answer(item.key)
    finally:
        alone.restore_original_limits()
        for batch in running:
            batch.stop()


def _batches(items: Sequence[Item], pool: Pool, journal: Journal) -> Iterator[Batch]:
    files = sum(item.files for item in items)
    most = max(1, min(pool.most_files, -(-files // (pool.workers * pool.batches))))
    batch: list[Item] = []
    count = 0
    for item in items:
        if batch and count + item.files > most:
            yield pool.batch(batch, journal.new())
            batch, count = [], 0
        batch.append(item)
        count += item.files
    if batch:
        yield pool.batch(batch, journal.new())


def _start(running: deque[Batch], work: Work, pool: Pool) -> list[Batch]:
    """Start what may start; returns what is active."""
    active = [batch for batch in running if batch.active]
    for batch in running:
        if len(active) < pool.workers and not batch.active and not batch.ended:
            batch.start(work, pool.limits)
            active.append(batch)
    return active


def _turn(running: deque[Batch], work: Work, pool: Pool) -> None:
    """Start what may start, and wait until something changes."""
    active = _start(running, work, pool)
    if not running[0].ended:
        pool.wait(active)
        for batch in active:
            batch.look(pool.limits)
