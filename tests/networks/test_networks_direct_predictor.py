from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from medssl.networks import DirectPredictor
from medssl.networks.direct_predictor import spectral_root


def test_agrees_with_the_paper():
    """Outer products in a loop, and NumPy's eigenvectors one by one."""
    batches = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(0))
    predictor, correlation = DirectPredictor(4, 0.3, 0.01), np.zeros((4, 4))
    for f in batches:
        found = predictor(f)
        mean = sum(np.outer(row, row) for row in f.double().numpy()) / len(f)
        correlation = 0.3 * correlation + 0.7 * mean
    s, u = np.linalg.eig(correlation)
    weight = sum((math.sqrt(s[i] / max(s)) + 0.01) * np.outer(u[:, i], u[:, i]) for i in range(4))
    np.testing.assert_allclose(predictor.correlation, correlation, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(predictor.weight, weight, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found, f @ predictor.weight.T)


def test_known_values():
    root = spectral_root(torch.diag(torch.tensor([4.0, 1.0, 0.0])), 0.1)
    torch.testing.assert_close(root, torch.diag(torch.tensor([1.1, 0.6, 0.1])))
    torch.testing.assert_close(spectral_root(torch.zeros(2, 2), 0.1), 0.1 * torch.eye(2))
    # A rotation of the projections rotates the predictor; their scale is nothing to it.
    base = torch.diag(torch.tensor([4.0, 1.0, 0.25]))
    turn = torch.linalg.qr(torch.randn(3, 3))[0]
    expected = turn @ spectral_root(base, 0.1) @ turn.T
    torch.testing.assert_close(spectral_root(7 * turn @ base @ turn.T, 0.1), expected)


def test_a_number_that_is_not_finite_is_passed_on():
    assert spectral_root(torch.full((2, 2), torch.inf), 0.1).isnan().all()


def test_it_stands_still_in_evaluation_and_gradient_passes_it():
    predictor = DirectPredictor(3)
    predictor(torch.randn(5, 3))
    weight = predictor.eval().weight.clone()
    f = torch.randn(5, 3, requires_grad=True)
    predictor(f).sum().backward()
    assert torch.equal(predictor.weight, weight)
    torch.testing.assert_close(f.grad, weight.sum(0).expand(5, 3))


def test_refusals():
    with pytest.raises(ValueError, match="below 1"):
        DirectPredictor(3, rho=1.0)
