"""Memory for batches that processes share: without a name, pinned where there is a GPU."""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from medssl.errors import MedsslError

Array = npt.NDArray[Any]
Fields = dict[str, tuple[tuple[int, ...], np.dtype[Any]]]
Layout = list[dict[str, tuple[int, tuple[int, ...], str]]]

_ALIGN = 4096  # bytes


class Memory:
    """Slots for batches in one piece of shared memory without a name.

    Attributes:
        fd: of the memory.
        arrays, tensors: by slot and field, the same memory.
    """

    def __init__(self, fields: Fields, size: int, slots: int) -> None:
        self._layout, total = _layout(fields, size, slots)
        self.fd = _anonymous(total)
        self._map = mmap.mmap(self.fd, total)
        self.arrays = views(self._map, self._layout)
        self.tensors = [
            {name: torch.from_numpy(array) for name, array in slot.items()} for slot in self.arrays
        ]
        self._events: list[Any] = [None] * slots
        self._pinned = 0
        if cuda_in_use() and slots:
            # Pinned where it lies: a copy to the device then needs no other, and is not waited for.
            start = np.frombuffer(self._map, np.uint8).ctypes.data
            if int(_cudart().cudaHostRegister(start, total, 0)) == 0:
                self._pinned = start

    @property
    def layout(self) -> Layout:
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


def _layout(fields: Fields, size: int, slots: int) -> tuple[Layout, int]:
    """Where each array of each slot begins, its shape and dtype; and the bytes of all."""
    layout: Layout = []
    place = 0
    for _ in range(slots):
        slot = {}
        for name, (shape, dtype) in fields.items():
            slot[name] = (place, (size, *shape), dtype.str)
            place += -(-math.prod((size, *shape)) * dtype.itemsize // _ALIGN) * _ALIGN
        layout.append(slot)
    return layout, max(place, _ALIGN)


def views(memory: mmap.mmap, layout: Layout) -> list[dict[str, Array]]:
    """The arrays of each slot, in the memory."""
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


def cuda_in_use() -> bool:
    """Whether this process works on a GPU."""
    return torch.cuda.is_available() and bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def _cudart() -> Any:
    return torch.cuda.cudart()  # type: ignore[no-untyped-call]
