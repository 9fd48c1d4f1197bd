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


@pytest.mark.parametrize("frozen", [False, True])
def test_frozen_ones_pass_the_gradient_on_and_get_zeros(frozen):
    torch.manual_seed(0)
    layer, z = Prototypes(3, 5), torch.randn(4, 3, requires_grad=True)
    before = layer(z).detach()
    layer.frozen = frozen
    found = layer(z)
    torch.testing.assert_close(found, before)
    found.square().sum().backward()
    assert z.grad.any()
    assert layer.weight.grad is not None
    assert bool(layer.weight.grad.any()) is not frozen


def test_there_is_at_least_one():
    with pytest.raises(ValueError, match="at least one"):
        Prototypes(3, 0)
