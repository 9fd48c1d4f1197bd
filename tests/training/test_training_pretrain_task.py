import math

import pytest
import torch
from torch import nn

from medssl.methods import Method, Step
from medssl.training.pretrain_task import PretrainTask


def batch(count=4):
    generator = torch.Generator().manual_seed(count)
    return {
        "image": torch.randn(count, 1, 8, 8, generator=generator),
        "label": torch.zeros(count, 1, 8, 8, dtype=torch.int64),
        "target": torch.full((count,), -1),
        "normalisation": torch.tensor([[-100.0, 100.0, 0.0, 1.0]]).repeat(count, 1),
        "spacing": torch.ones(count, 2),
        "key": torch.arange(count),
        "volume": torch.arange(count),
        "subject": torch.arange(count),
        "place": torch.eye(2, 3).repeat(count, 1, 1),
        "extent": torch.full((count, 2), 8.0),
    }


class Told(Method):
    """A method that gives what a test wants."""

    def __init__(self, **given):
        nn.Module.__init__(self)
        self.given = given

    def step(self, crops):
        return Step(crops.image.mean(), **{k: v(crops.image) for k, v in self.given.items()})


def flat(crops):
    return crops.flatten(1)[:, :6]


def test_what_a_step_gives_is_what_is_measured():
    assert set(PretrainTask(Told())(batch())[1]) == {"weight_norm"}
    probabilities = torch.eye(8)[:4]
    task = PretrainTask(
        Told(
            embedding=flat,
            positives=lambda x: (flat(x), -flat(x)),
            teacher_probs=lambda x: probabilities,
            trivial_loss=lambda x: 1.5,
            logs=lambda x: {"mine": x.sum()},
        )
    )
    logs = {name: float(value) for name, value in task(batch())[1].items()}
    assert set(logs) == {
        "mine", "weight_norm", "effective_rank", "embedding_std", "alignment", "uniformity",
        "teacher_entropy", "teacher_kl_uniform", "trivial_loss",
    }  # fmt: skip
    assert logs["alignment"] == pytest.approx(4)
    assert logs["teacher_kl_uniform"] == pytest.approx(math.log(2))
    assert task.prototypes == 8
    task.measure = False
    assert set(task(batch())[1]) == {"mine"}


def test_one_sample_is_measured_by_what_one_sample_can_say():
    task = PretrainTask(Told(embedding=flat, positives=lambda x: (flat(x), flat(x))))
    logs = task(batch(1))[1]
    assert set(logs) == {"weight_norm", "effective_rank", "alignment"}
    assert all(value.isfinite() for value in logs.values())


def test_the_rank_is_that_of_the_last_embeddings():
    task = PretrainTask(Told(embedding=flat), queue=5)
    task(batch(2))
    logs = task(batch(4))[1]
    expected = torch.cat((flat(batch(2)["image"])[1:], flat(batch(4)["image"])))
    assert torch.equal(task.recent, expected)
    assert 2 < float(logs["effective_rank"]) <= 5
    task(batch(7))
    assert torch.equal(task.recent, flat(batch(7)["image"])[-5:])


def test_the_last_embeddings_are_state_but_no_weights():
    task, other = (PretrainTask(Told(embedding=flat), queue=5) for _ in range(2))
    task(batch(4))
    other.load_state_dict(task.state_dict())
    assert torch.equal(other.recent, task.recent)
    assert not list(task.parameters())
