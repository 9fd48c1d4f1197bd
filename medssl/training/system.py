"""What a run uses of its machine: processor, memory, device. Linux tells; elsewhere less is known.

MLflow's own system metrics need packages that medssl does without, and send a host's disks and
network along.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch

_GIB = 2.0**30


def memory_used() -> int:
    """Bytes of main memory that this process holds; 0 where it cannot be known."""
    return _status("VmRSS")


def memory_peak() -> int:
    """The most bytes of main memory that this process has held; 0 where it cannot be known."""
    return _status("VmHWM")


def memory_free() -> int:
    """Bytes of main memory that can still be had here, a container's limit included."""
    free = _meminfo("MemAvailable") or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit, used = (_number(Path(f"/sys/fs/cgroup/memory.{name}")) for name in ("max", "current"))
    # Files read into the page cache count as used, and are given back when memory is asked for.
    cached = _table(Path("/sys/fs/cgroup/memory.stat")).get("file", 0)
    return min(free, max(0, limit - used + cached)) if limit else free


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class SystemMeter:
    """Reads the machine when asked, without a thread of its own.

    Args:
        device: where the run computes.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._last = _processor()

    def read(self) -> dict[str, float]:
        """Share of the processor's time in use since the last reading, on the whole machine;
        memory in GiB of this process, share of the machine's in use; of the device."""
        found: dict[str, float] = {}
        busy, whole = _processor()
        busy_before, whole_before = self._last
        self._last = busy, whole
        if whole > whole_before:
            found["system/cpu_fraction"] = (busy - busy_before) / (whole - whole_before)
        if total := _meminfo("MemTotal"):
            found["system/ram_fraction"] = 1 - _meminfo("MemAvailable") / total
        if used := memory_used():
            found["system/process_gib"] = used / _GIB
        if self._device.type == "cuda":
            free, total = torch.cuda.mem_get_info(self._device)
            found["system/device_fraction"] = 1 - free / total
            found["system/device_peak_gib"] = torch.cuda.max_memory_allocated(self._device) / _GIB
        return found


def _processor() -> tuple[int, int]:
    """Ticks that all cores were busy, and all there were."""
    try:
        first = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0]
    except OSError:
        return 0, 0
    ticks = [int(word) for word in first.split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def _status(name: str) -> int:
    return _table(Path("/proc/self/status")).get(name, 0) * 1024


def _meminfo(name: str) -> int:
    return _table(Path("/proc/meminfo")).get(name, 0) * 1024


def _table(path: Path) -> dict[str, int]:
    """The whole numbers of a file of lines "name: number"; empty where there is no such file."""
    try:
        lines = [line.split() for line in path.read_text(encoding="ascii").splitlines()]
    except (OSError, UnicodeDecodeError):
        return {}
    return {w[0].rstrip(":"): int(w[1]) for w in lines if len(w) > 1 and w[1].isdigit()}


def _number(path: Path) -> int:
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:
        return 0
    return int(text) if text.isdigit() else 0
