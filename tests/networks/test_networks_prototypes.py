import pytest
import torch
import torch.nn.functional as F

from medssl.networks import Prototypes


def test_scores_are_cosines_whatever_the_lengths():
    torch.manual_seed(0)
    layer, z = Prototypes(3, 5), torch.randn(4, 3)
    expected = F.cosine_similarity(z[:, None], layer.weight[None], dim=2)
    torch.testing.assert_close(layer(z), expected)
    with torch.no_grad():
        layer.weight.mul_(3.0)
    torch.testing.assert_close(layer(2 * z), expected)
    layer.normalise()
    torch.testing.assert_close(layer.weight.norm(dim=1), torch.ones(5))
    torch.testing.assert_close(layer(z), expected)
    assert layer(z.double()).dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(layer(z), expected)


def test_frozen_ones_have_a_gradient_and_it_is_zero():
    torch.manual_seed(0)
    layer, z = Prototypes(3, 5), torch.randn(4, 3, requires_grad=True)
    torch.testing.assert_close(layer(z, frozen=True), layer(z))
    layer(z, frozen=True).square().sum().backward()
    assert torch.equal(layer.weight.grad, torch.zeros(5, 3))
    assert z.grad.any()
    layer(z).square().sum().backward()
    assert layer.weight.grad.any()


def test_there_is_at_least_one():
    with pytest.raises(ValueError, match="at least one"):
        Prototypes(3, 0)
