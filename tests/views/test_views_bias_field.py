from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.polynomial import legendre
from torch import Tensor

from medssl.views.bias_field import TERMS, BiasField, add_bias, log_field


def coefficients(n: int) -> Tensor:
    return torch.randn(n, len(TERMS), generator=torch.Generator().manual_seed(1)) * 0.3


@pytest.mark.parametrize("size", [(9, 12), (7, 8, 5)])
def test_field_agrees_with_numpy(size: tuple[int, ...]):
    given = coefficients(2)
    got = log_field(given, torch.Size(size))
    axes = [(np.arange(n) + 0.5) * 2 / n - 1 for n in size]
    for b in range(2):
        cube = np.zeros((4,) * len(size))
        for term, value in zip(TERMS, given[b].tolist(), strict=True):
            if not any(term[len(size) :]):
                cube[term[: len(size)]] = value
        grid = legendre.leggrid2d if len(size) == 2 else legendre.leggrid3d
        np.testing.assert_allclose(got[b].numpy(), grid(*axes, cube), atol=1e-5)


def test_terms_are_those_of_total_order_three():
    assert len(set(TERMS)) == 19
    assert all(1 <= sum(term) <= 3 for term in TERMS)


def test_the_signal_is_multiplied_and_air_stays_air():
    x = torch.rand(2, 2, 9, 8) * 4 - 1
    x[:, :, 0, 0] = -1.0
    given = coefficients(2)
    got = add_bias(x, given)
    field = log_field(given, torch.Size((9, 8))).exp()[:, None]
    torch.testing.assert_close(got + 1, (x + 1) * field)
    assert torch.equal(got[:, :, 0, 0], x[:, :, 0, 0])


def test_neutral_values_return_the_input():
    x = torch.randn(2, 1, 6, 6, 6)
    none = torch.zeros(2, dtype=torch.bool)
    assert BiasField(none, coefficients(2)).apply(x, None) is x
    got = BiasField(~none, torch.zeros(2, 19)).apply(x, None)
    torch.testing.assert_close(got, x, rtol=0, atol=1e-5)
