"""Whose turn it is: each volume once per epoch, groups evenly, series as one."""

from collections import Counter

import numpy as np
import pytest

from medssl.training.sampling import Numbers, Turns, numbered, order, spread


def turns(units, groups=None, seed=5):
    groups = np.zeros(len(units), int) if groups is None else groups
    return Turns(seed, np.array(units), np.array(groups))


def splitmix(value):
    """Steele et al. 2014, figure 18, in Python's own integers."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        value = (value ^ (value >> shift)) * factor % 2**64
    return value ^ (value >> 31)


@pytest.mark.parametrize("key", [0, 7, -(2**63), 2**63 - 1])
def test_order_sorts_by_a_hash_whatever_numpy_does(key):
    hashes = [splitmix((key + i * 0x9E3779B97F4A7C15) % 2**64) for i in range(1, 51)]
    assert order(key, 50).tolist() == sorted(range(50), key=hashes.__getitem__)
    assert sorted(order(key, 1000)) == list(range(1000))


def test_every_place_is_as_likely():
    firsts = Counter(int(order(key * 7919, 5)[0]) for key in range(2000))
    assert all(330 < firsts[i] < 470 for i in range(5))


def test_numbers_are_uniform_and_their_own():
    numbers = [Numbers(key).below(4) for key in range(4000)]
    assert all(900 < count < 1100 for count in Counter(numbers).values())
    one = Numbers(9)
    assert [one.below(10**9) for _ in range(3)] == [Numbers(9).below(10**9), *_later(9)]
    assert not Numbers(1).chance(0.0)
    assert Numbers(1).chance(1.0)
    assert 150 < sum(Numbers(key).chance(0.2) for key in range(1000)) < 250


def _later(key):
    numbers = Numbers(key)
    numbers.below(10**9)
    return [numbers.below(10**9), numbers.below(10**9)]


def test_every_volume_once_per_epoch_in_another_order_each_time():
    taken = turns(range(7))
    epochs = [[taken(7 * epoch + i) for i in range(7)] for epoch in range(20)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 15


def test_a_turn_depends_on_its_number_alone():
    units, groups = [0, 0, 1, 2, 3, 3], [0, 0, 0, 1, 1, 1]
    forward = [turns(units, groups)(n) for n in range(60)]
    taken = turns(units, groups)
    assert [taken(n) for n in reversed(range(60))] == forward[::-1]
    assert [turns(units, groups, seed=6)(n) for n in range(60)] != forward


def test_a_time_series_comes_as_often_as_one_volume_and_its_times_one_after_the_other():
    taken = turns([0] * 10 + [1, 2])  # ten times, and two volumes alone
    seen = Counter(taken(n) for n in range(3 * 20))
    assert len(taken) == 3
    assert seen[10] == seen[11] == 20
    assert [seen[i] for i in range(10)] == [2] * 10


def test_groups_come_equally_often_and_their_volumes_once_a_round():
    groups = np.array([0] * 9 + [1] * 2 + [2])
    taken = turns(range(12), groups)
    drawn = [taken(n) for n in range(3 * 18)]
    assert Counter(groups[drawn].tolist()) == {0: 18, 1: 18, 2: 18}
    assert all(len({int(groups[v]) for v in drawn[i : i + 3]}) == 3 for i in range(0, 54, 3))
    assert all(drawn.count(v) == 2 for v in range(9))
    assert all(drawn.count(v) == 9 for v in (9, 10))


def test_no_volumes_are_refused():
    with pytest.raises(ValueError, match="no volumes"):
        turns([])


def test_equal_keys_get_equal_numbers():
    assert numbered(["b", "a", "b", "c"]).tolist() == [0, 1, 0, 2]


@pytest.mark.parametrize("count", [0, 1, 511, 512, 513, 100_003])
def test_places_are_spread_over_all(count):
    chosen = spread(4, count, 512)
    assert len(set(chosen.tolist())) == len(chosen) == min(count, 512)
    if count:
        assert 0 <= chosen.min() <= count / 256
        assert count - 1 - count / 256 <= chosen.max() < count
