import logging
import math

import pytest
import torch

from medssl.errors import MedsslError
from medssl.training.pretrain_task import PretrainTask, weight_norm
from medssl.training.watch import CollapseMonitor, Watch, WatchConfig

HEALTHY = {
    "loss": 1.0,
    "trivial_loss": 2.0,
    "embedding_std": 0.5,
    "effective_rank": 40.0,
    "alignment": 0.3,
    "uniformity": -2.0,
    "teacher_entropy": 2.0,
    "teacher_kl_uniform": 1.0,
    "weight_norm": 25.0,
}
LN_K = math.log(64)


def monitor(**more):
    config = WatchConfig(**({"grace": 0, "patience": 3} | more))
    return CollapseMonitor(config, 0, lambda: (256, 64, 64), weights=20.0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"embedding_std": 1e-4}, "same features"),
        ({"effective_rank": 1.05}, "one direction"),
        ({"effective_rank": 2.5}, "lost their dimensions"),
        ({"alignment": 1e-3, "uniformity": -1e-3}, "one point"),
        ({"teacher_entropy": LN_K * 0.995}, "prefers nothing"),
        ({"teacher_entropy": 0.0, "teacher_kl_uniform": LN_K}, "one of its 64"),
        ({"loss": 1.999}, "is that of a network"),
        ({"weight_norm": 210.0}, "ran away, they are 10.5 times as long"),
    ],
)
def test_each_rule_goes_off_after_its_patience_and_says_why(change, words):
    watched = monitor()
    assert [watched.judge(step, HEALTHY) for step in range(1, 9)] == [""] * 8
    found = [watched.judge(step, HEALTHY | change) for step in range(9, 12)]
    assert found[:2] == ["", ""]
    assert words in found[2]


@pytest.mark.parametrize(
    "change",
    [
        {"alignment": 0.0},  # views alike is the aim, as long as images differ
        {"uniformity": 0.0, "alignment": 1.0},
        {"teacher_entropy": 0.0},  # sure of each image, and of another prototype for each
        {"loss": 2.1},
        {"effective_rank": 20.0},
        {"weight_norm": 199.0},
    ],
)
def test_what_may_be_healthy_is_let_pass(change):
    watched = monitor()
    rows = [HEALTHY] * 5 + [HEALTHY | change] * 20
    assert not any(watched.judge(step, row) for step, row in enumerate(rows, start=1))


def test_a_row_is_judged_by_what_it_has():
    watched = monitor()
    assert not any(watched.judge(step, {"loss": 1.0}) for step in range(1, 30))


def test_a_rank_that_was_never_high_can_not_fall():
    watched = monitor()
    rows = [1.9, 1.5, *[1.2] * 20]
    assert not any(watched.judge(i, {"effective_rank": r}) for i, r in enumerate(rows, start=1))


def test_one_good_row_starts_the_count_anew_and_the_start_is_not_judged():
    bad = HEALTHY | {"embedding_std": 0.0}
    watched = monitor()
    rows = [bad, bad, HEALTHY, bad, bad]
    assert not any(watched.judge(step, row) for step, row in enumerate(rows, start=1))
    late = monitor(grace=10)
    found = [bool(late.judge(step, bad)) for step in range(1, 14)]
    assert found == [False] * 12 + [True]


def watch(**more):
    task = PretrainTask(torch.nn.Identity())
    config = WatchConfig(**({"grace": 0, "patience": 1} | more))
    return task, Watch(task, config, lambda step: step % 5 == 0, 0)


def test_a_collapse_stops_the_run_or_warns_once_or_is_let_go(caplog):
    bad = {"loss": 1.0, "embedding_std": 0.0}
    with pytest.raises(MedsslError, match="TRAINING_COLLAPSED") as caught:
        watch()[1].on_row(7, dict(bad))
    assert caught.value.where == "step 7"
    assert "embedding_std 0 is below 0.003" in caught.value.what
    warned = watch(on_collapse="warn")[1]
    with caplog.at_level(logging.WARNING):
        for step in (7, 8):
            warned.on_row(step, dict(bad))
    assert len(caplog.records) == 1
    watch(on_collapse="off")[1].on_row(7, dict(bad))


def test_weights_are_measured_from_the_start_on_those_of_linear_layers_and_convolutions():
    layers = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2), torch.nn.ReLU())
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.fill_(1.0 if parameter.ndim == 2 else 1e6)  # biases do not count
    layers[1].requires_grad_(False)  # nor does what is not trained
    task = PretrainTask(layers)
    assert float(weight_norm(task)) == 2.0
    assert float(weight_norm(torch.nn.Identity())) == 1.0
    watched = Watch(task, WatchConfig(grace=0, patience=1), lambda step: True, 0)
    watched.on_row(1, {"loss": 1.0, "weight_norm": 20.0})
    with pytest.raises(MedsslError, match="the weights ran away, they are 10.5 times as long"):
        watched.on_row(2, {"loss": 1.0, "weight_norm": 21.0})


def test_only_the_steps_whose_numbers_are_read_are_measured():
    task, watched = watch()
    measured = []
    for step in range(1, 11):
        watched.before_step(step, {})
        measured.append(task.measure)
    assert [step for step, on in enumerate(measured, start=1) if on] == [5, 10]


@pytest.mark.parametrize(("loss", "norm"), [("nan", "1"), ("1", "inf")])
def test_the_first_bad_step_is_the_one_that_broke_it(loss, norm):
    watched = watch()[1]
    assert watched.first_bad() is None
    one = torch.tensor(1.0)
    for step in (1, 2):
        watched.after_backward(step, one, one)
    assert watched.first_bad() is None
    watched.after_backward(3, torch.tensor(float(loss)), torch.tensor(float(norm)))
    watched.after_backward(4, torch.tensor(float("nan")), one)
    watched.after_backward(5, one, one)
    assert watched.first_bad() == 3
