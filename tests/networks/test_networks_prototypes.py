from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from medssl.networks import Prototypes


def test_it_gives_cosines_whatever_the_lengths():
    prototypes, x = Prototypes(5, 7), torch.randn(4, 5)
    expected = F.cosine_similarity(x[:, None], prototypes.weight[None], dim=2)
    torch.testing.assert_close(prototypes(x), expected)
    with torch.no_grad():
        prototypes.weight.mul_(3.0)
    torch.testing.assert_close(prototypes(2 * x), expected)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(prototypes(x), expected)


@pytest.mark.parametrize("frozen", [False, True])
def test_frozen_ones_pass_the_gradient_on_and_get_zeros(frozen):
    prototypes, x = Prototypes(5, 7), torch.randn(4, 5, requires_grad=True)
    before = prototypes(x).detach()
    prototypes.frozen = frozen
    found = prototypes(x)
    torch.testing.assert_close(found, before)
    found.square().sum().backward()
    assert x.grad.any()
    assert prototypes.weight.grad is not None
    assert bool(prototypes.weight.grad.any()) is not frozen
