import mmap

import numpy as np
import pytest

from medssl.store.arrays import open_array, write_array
from medssl.training.read_ahead import ReadAhead, runs


@pytest.mark.parametrize(
    ("shape", "window"),
    [((2, 7, 9), [(1, 4), (2, 5)]), ((2, 5, 6, 7), [(1, 3), (2, 6), (3, 5)])],
)
def test_runs_hold_the_window_and_begin_and_end_with_it(shape, window):
    places = [slice(*ends) for ends in window]
    wanted = np.zeros(shape, bool)
    wanted[(slice(None), *places)] = True
    wanted = np.repeat(wanted.reshape(-1), 2)
    covered = np.zeros_like(wanted)
    for first, count in runs(shape, 2, places):
        covered[first : first + count] = True
        assert wanted[first]
        assert wanted[first + count - 1]
    assert not (wanted & ~covered).any()


class Map(mmap.mmap):
    asked: list[int]

    def madvise(self, option, start, length):
        self.asked.append(start)
        return super().madvise(option, start, length)


def test_it_asks_while_reading_waits_for_the_disk(tmp_path):
    array = np.arange(40 * 50 * 60, dtype=np.int16).reshape(1, 40, 50, 60)
    write_array(tmp_path / "a.npy", array)
    with (tmp_path / "a.npy").open("rb") as stream:
        memory = Map(stream.fileno(), 0, access=mmap.ACCESS_READ)
    memory.asked = []
    mapped = np.ndarray(array.shape, array.dtype, memory, len(memory) - array.nbytes)
    assert np.array_equal(mapped, open_array(str(tmp_path / "a.npy")))
    waited = 0
    ahead = ReadAhead(lambda: waited)
    window = [slice(3, 9), slice(0, 50), slice(5, 20)]

    def crop(waits):
        nonlocal waited
        before = len(memory.asked)
        ahead.before(mapped, window)
        waited += waits
        ahead.after()
        return len(memory.asked) - before

    assert [crop(0), crop(1), crop(0), crop(0)] == [0, 0, 6, 6]
    assert crop(0) == 6
    assert sum(crop(0) for _ in range(40)) == 6 * 29, "then it looks again"
    ahead.before(array, window)
    ahead.after()
