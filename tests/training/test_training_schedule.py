import itertools

import pytest

from medssl.config import load
from medssl.errors import MedsslError
from medssl.networks import cosine_between
from medssl.training.schedule import Schedule
from medssl.training.settings import LoopConfig


def factors(schedule):
    return [schedule.factor(step) for step in range(schedule.steps + 1)]


def test_cosine_warms_up_and_ends_at_zero():
    found = factors(Schedule("cosine", 100, warmup=10))
    assert found[0] == pytest.approx(0.1)
    assert found[9] == found[10] == 1.0
    assert found[55] == pytest.approx(0.5)
    assert found[100] == pytest.approx(0.0)
    assert all(a >= b for a, b in itertools.pairwise(found[10:]))


def test_no_warmup_starts_at_one():
    for kind in ("cosine", "constant", "polynomial"):
        assert Schedule(kind, 10).factor(0) == 1.0


def test_ends_are_met():
    assert Schedule("cosine", 10, end=0.2).factor(10) == pytest.approx(0.2)
    assert Schedule("cosine", 10, end=0.2).factor(5) == pytest.approx(0.6)
    assert Schedule("polynomial", 10, end=0.2).factor(5) == pytest.approx(0.6)
    assert Schedule("polynomial", 10, end=0.2, power=2.0).factor(5) == pytest.approx(0.4)
    assert set(factors(Schedule("constant", 10))) == {1.0}


def test_wsd_warms_up_cools_down_holds_and_anneals():
    schedule = Schedule("wsd", 100, warmup=10, end=0.005, cooldown=20, hold=0.5, decay=10)
    found = factors(schedule)
    assert found[9] == found[10] == 1.0
    assert found[20] == pytest.approx(0.75)
    assert found[30:90] == [0.5] * 60
    assert schedule.branch == 90
    assert found[94] == pytest.approx(0.5 * 0.01**0.5)
    assert found[99] == pytest.approx(0.005)


def test_more_steps_do_not_move_what_has_been():
    config = LoopConfig(schedule="wsd", steps=100)
    longer = LoopConfig(schedule="wsd", steps=160)
    short, long = Schedule.of(config, 100), Schedule.of(longer, 100)
    assert factors(short)[: short.branch] == factors(long)[: short.branch]
    assert [long.factor(s) for s in range(25, long.branch)] == [0.5] * 125
    assert (short.branch, long.branch) == (90, 150)
    assert long.factor(159) == pytest.approx(0.01)


def test_half_a_cosine_between_two_numbers():
    assert cosine_between(0.996, 1.0, 0.0) == pytest.approx(0.996)
    assert cosine_between(0.996, 1.0, 0.5) == pytest.approx(0.998)
    assert cosine_between(0.996, 1.0, 1.0) == cosine_between(0.996, 1.0, 7.0) == 1.0
    assert cosine_between(0.0, 1.0, 1 / 3) == pytest.approx(0.25)


@pytest.mark.parametrize(
    "values",
    [{"warmup": 0.5, "wsd_cooldown": 0.4, "wsd_decay": 0.2}, {"lr_end": 0.0}],
)
def test_wsd_that_cannot_be_is_refused(values):
    with pytest.raises(MedsslError, match="CONFIG_INVALID"):
        load(LoopConfig, values={"schedule": "wsd", **values})
