import itertools

import pytest
import torch
from torch import nn

from medssl.training.optim import adamw, cosine


def test_cosine_warms_up_and_ends_at_zero():
    factors = [cosine(step, 100, 10) for step in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9] == factors[10] == 1.0
    assert factors[55] == pytest.approx(0.5)
    assert factors[100] == pytest.approx(0.0)
    assert all(a >= b for a, b in itertools.pairwise(factors[10:]))


def test_no_warmup_starts_at_one():
    assert cosine(0, 10, 0) == 1.0


def test_only_kernels_decay_and_frozen_parameters_are_left_out():
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.GroupNorm(1, 2), nn.Linear(2, 2))
    module[2].weight.requires_grad_(False)
    groups = adamw(module, 0.1, 0.5, (0.9, 0.99)).param_groups
    assert [group["weight_decay"] for group in groups] == [0.5, 0.0]
    assert [tuple(p.shape) for p in groups[0]["params"]] == [(2, 1, 3, 3)]
    assert len(groups[1]["params"]) == 4
    assert isinstance(groups[0]["params"][0], torch.Tensor)
