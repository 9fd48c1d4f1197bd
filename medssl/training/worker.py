"""The process that makes samples for another, until its pipe closes or its parent is gone."""

from __future__ import annotations

import json
import mmap
import os
import signal
import struct
import traceback
from collections.abc import Mapping
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from medssl.errors import MedsslError
from medssl.training.slots import Fields, Layout, views

Array = npt.NDArray[Any]

TASK = struct.Struct("<qqqq")  # slot, first place in it, how many, number of the first sample
DONE = struct.Struct("<qq")  # slot, how many
_ORPHAN_CHECK = 2.0  # seconds


class Source(Protocol):
    """What makes samples: :class:`medssl.training.data.CropSource`.

    One that fills only some of its fields in a batch says which, by ``part``: see
    :class:`medssl.training.mixed.MixedSource`.
    """

    def fields(self) -> Fields:
        """Shape and dtype of what one sample has."""
        ...

    def write(self, number: int, batch: Mapping[str, Array], place: int) -> None:
        """Write sample ``number`` into place ``place`` of a batch."""
        ...


def work(
    pipe: Connection, inherited: list[Connection], source: Source, layout: Layout, parent: int
) -> None:
    """Do the tasks that come through the pipe."""
    for end in (signal.SIGINT, signal.SIGTERM):
        signal.signal(end, signal.SIG_IGN)  # they are the parent's to follow, which then ends us
    for other in inherited:
        other.close()  # or none of us would see that the parent is gone
    fd = recv_handle(pipe)
    memory = mmap.mmap(fd, 0)
    os.close(fd)
    slots = views(memory, layout)
    try:
        while True:
            while not pipe.poll(_ORPHAN_CHECK):
                if os.getppid() != parent:
                    return
            task = TASK.unpack(pipe.recv_bytes())
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
    return DONE.pack(slot, count)


def _told(*words: str) -> bytes:
    return json.dumps(words).encode()


def told_error(answer: bytes) -> MedsslError:
    """The error that a worker told of instead of being done."""
    code, what, where, fix = json.loads(answer)
    return MedsslError(code, what, where=where, fix=fix)
