"""The ring: batches in order, the same by any number of processes, and nothing left behind."""

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from medssl.errors import MedsslError
from medssl.training.ring import loader


class Source:
    """Sample n is n everywhere; some do as they are told."""

    def __init__(self, does=None, shape=(2, 3)):
        self.does, self.shape = does or {}, shape

    def fields(self):
        return {"image": (self.shape, np.dtype(np.int16)), "key": ((), np.dtype(np.int64))}

    def write(self, number, batch, place):
        if number in self.does:
            self.does[number]()
        batch["image"][place] = number
        batch["key"][place] = number


def keys(batches):
    return [batch["key"].tolist() for batch in batches]


def copies(batches):
    return [{k: v.clone() for k, v in batch.items()} for batch in batches]


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def refuse():
    raise MedsslError("STORE_CORRUPT", "An array is damaged", where="vol-7", fix="Restore it.")


def fail():
    raise ZeroDivisionError("/home/jane/secret")


def children():
    return Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()


def mappings():
    return sum("medssl-ring" in line for line in Path("/proc/self/maps").read_text().splitlines())


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("size", [1, 2, 7])
def test_workers_change_nothing(workers, size):
    want = copies(loader(Source(), size, 0, 9, 0))
    got = copies(loader(Source(), size, 0, 9, workers))
    assert keys(want) == [list(range(s * size, (s + 1) * size)) for s in range(9)]
    assert len(got) == 9
    for one, other in zip(want, got, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_goes_on_where_it_stopped(workers):
    whole = keys(copies(loader(Source(), 3, 0, 8, workers)))
    assert keys(copies(loader(Source(), 3, 5, 8, workers))) == whole[5:]
    assert keys(loader(Source(), 3, 8, 8, workers)) == []


@pytest.mark.parametrize(("world", "accumulate"), [(1, 1), (2, 1), (1, 4), (2, 2)])
def test_processes_and_micro_steps_share_the_samples_of_a_step(world, accumulate):
    parts = [
        copies(loader(Source(), 8, 1, 3, 0, rank=rank, world=world, accumulate=accumulate))
        for rank in range(world)
    ]
    assert all(len(part) == 2 * accumulate for part in parts)
    for step in range(2):
        own = slice(step * accumulate, (step + 1) * accumulate)
        seen = [key for part in parts for batch in keys(part[own]) for key in batch]
        assert seen == list(range(8 * (step + 1), 8 * (step + 2)))


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(MedsslError, match="CONFIG_INVALID"):
        loader(Source(), 6, 0, 1, 0, world=4)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_stays_until_the_next_but_one_is_asked_for(workers):
    held = []
    for batch in loader(Source(), 2, 0, 12, workers):
        held = [*held[-1:], (batch, batch["key"].clone())]
        time.sleep(0.005)  # for workers to write where they must not
        assert all(torch.equal(kept["key"], before) for kept, before in held)


def test_memory_is_used_again_and_bounded():
    places = {batch["image"].data_ptr() for batch in loader(Source(), 2, 0, 40, 2)}
    assert len(places) <= 4


@pytest.mark.parametrize(
    ("act", "code", "where"),
    [(die, "WORKER_LOST", "workers"), (refuse, "STORE_CORRUPT", "vol-7"),
     (fail, "WORKER_LOST", "ZeroDivisionError in test_training_ring.py")],
)  # fmt: skip
def test_a_worker_that_dies_or_fails_ends_the_run_with_a_code(act, code, where):
    started = time.monotonic()
    with pytest.raises(MedsslError, match=code) as caught:
        keys(loader(Source({11: act}), 2, 0, 50, 2))
    assert where in caught.value.where
    assert "jane" not in str(caught.value)
    assert time.monotonic() - started < 20
    gc.collect()
    assert children() == []


def test_a_worker_killed_while_it_waits_is_noticed():
    batches = iter(loader(Source(), 2, 0, 10**6, 2))
    next(batches)
    for child in children():
        os.kill(int(child), signal.SIGKILL)
    with pytest.raises(MedsslError, match="SIGKILL"):
        for _ in range(100):
            next(batches)


def test_nothing_stays_when_the_consumer_leaves_early_or_is_interrupted():
    before = mappings()
    batches = iter(loader(Source(), 2, 0, 100, 2))
    next(batches)
    assert mappings() > before
    assert len(children()) == 2
    batches.close()
    with pytest.raises(KeyboardInterrupt):
        for _ in loader(Source(), 2, 0, 100, 2):
            raise KeyboardInterrupt
    del batches
    gc.collect()
    assert children() == []
    assert mappings() == before


def test_a_batch_outlives_the_loader():
    batch = next(iter(loader(Source(), 2, 0, 100, 2)))
    gc.collect()
    assert batch["key"].tolist() == [0, 1]


def test_workers_leave_interrupts_to_their_parent():
    batches = iter(loader(Source(), 2, 0, 100, 2))
    next(batches)
    for child in children():
        os.kill(int(child), signal.SIGINT)
        os.kill(int(child), signal.SIGTERM)
    assert [next(batches)["key"].tolist() for _ in range(20)][-1] == [40, 41]
    batches.close()


KILLED = """
import sys, time
sys.path.insert(0, {folder!r})
from test_training_ring import Source, children
from medssl.training.ring import loader
for batch in loader(Source(shape=(64, 64)), 4, 0, 10**6, 2):
    print(" ".join(children()), flush=True)
    time.sleep(60)
"""


def test_killing_the_process_ends_its_workers_and_leaves_no_shared_memory():
    shared = sorted(Path("/dev/shm").iterdir())
    code = KILLED.format(folder=str(Path(__file__).parent))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as run:
        workers = [int(pid) for pid in run.stdout.readline().split()]
        assert len(workers) == 2
        run.kill()
    deadline = time.monotonic() + 10
    while any(_alive(pid) for pid in workers):
        assert time.monotonic() < deadline, "workers outlive their parent"
        time.sleep(0.1)
    assert sorted(Path("/dev/shm").iterdir()) == shared


LEFT_OPEN = """
import sys
sys.path.insert(0, {folder!r})
from test_training_ring import Source
from medssl.training.ring import loader
batches = iter(loader(Source(), 4, 0, 10**6, 2))
next(batches)
raise RuntimeError("an error")
"""


def test_a_program_that_ends_with_an_error_does_not_wait_for_its_workers():
    code = LEFT_OPEN.format(folder=str(Path(__file__).parent))
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.returncode == 1
    assert run.stderr.strip().endswith("RuntimeError: an error")


def _alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_more_memory_than_there_is_is_refused():
    with pytest.raises(MedsslError, match="OUT_OF_MEMORY"):
        next(iter(loader(Source(shape=(2**20, 2**20)), 64, 0, 10, 0)))


def test_workers_can_be_spawned(monkeypatch):
    """As they are beside CUDA, which does not survive a fork."""
    monkeypatch.setattr("medssl.training.ring._method", lambda: "spawn")
    assert keys(copies(loader(Spawned(), 2, 0, 3, 1))) == [[0, 1], [2, 3], [4, 5]]


class Spawned(Source):
    def __reduce__(self):
        return _source, ()


def _source():
    return Source()
