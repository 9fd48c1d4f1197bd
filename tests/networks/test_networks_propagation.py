from __future__ import annotations

import pytest
import torch

from medssl.networks import Propagation


@pytest.mark.parametrize("power", [1.0, 2.0, 2.5])
def test_agrees_with_a_loop(power: float):
    torch.manual_seed(0)
    module = Propagation(4, power).double()
    x = torch.randn(2, 5, 4, dtype=torch.float64)
    expected = torch.zeros_like(x)
    for b in range(2):
        for i in range(5):
            for j in range(5):
                cosine = torch.dot(x[b, i], x[b, j]) / (x[b, i].norm() * x[b, j].norm())
                expected[b, i] += max(float(cosine), 0.0) ** power * module.transform(x[b, j])
    torch.testing.assert_close(module(x), expected)


def test_known_values():
    module = Propagation(2, layers=0)
    x = torch.tensor([[[1.0, 0.0], [0.0, 2.0], [-1.0, 0.0], [3.0, 3.0]]])
    # Cosines of the first: 1, 0, -1 and √½, whose square is ½.
    torch.testing.assert_close(module(x)[0, 0], torch.tensor([2.5, 1.5]))
    torch.testing.assert_close(module(x)[0, 2], x[0, 2])


def test_the_order_of_cells_means_nothing():
    torch.manual_seed(0)
    module, x = Propagation(4, layers=2), torch.randn(2, 6, 4)
    order = torch.randperm(6)
    torch.testing.assert_close(module(x[:, order]), module(x)[:, order])


def test_refusals():
    with pytest.raises(ValueError, match="power must be above 0"):
        Propagation(4, 0)
    with pytest.raises(ValueError, match="layers not below"):
        Propagation(4, layers=-1)
