import math

import pytest
import torch
import torch.nn.functional as F

from medssl.losses.measures import (
    alignment,
    divergence_from_uniform,
    effective_rank,
    entropy,
    spread,
    uniformity,
)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(30, 7), (7, 30), (12, 12)])
def test_effective_rank_is_rankme_of_the_singular_values(shape):
    x = normal(*shape) + 0.5
    sigma = torch.linalg.svdvals(x.double())
    p = (sigma / sigma.sum() + 1e-7).tolist()
    expected = math.exp(-sum(q * math.log(q) for q in p))
    assert float(effective_rank(x)) == pytest.approx(expected, rel=1e-5)


def test_rows_of_zeros_change_no_rank_and_zeros_alone_are_finite():
    x = normal(20, 6)
    padded = torch.cat((torch.zeros(50, 6), x))
    assert float(effective_rank(padded)) == pytest.approx(float(effective_rank(x)), rel=1e-5)
    assert float(effective_rank(torch.zeros(5, 4))) == pytest.approx(1, abs=1e-4)
    assert effective_rank(torch.tensor([[1.0, float("nan")], [0.0, 1.0]])).isnan()


def test_spread_is_one_on_the_sphere_and_zero_at_a_point():
    assert float(spread(normal(4000, 32))) == pytest.approx(1, abs=0.02)
    assert float(spread(torch.ones(5, 32))) == 0
    # only the direction counts
    assert float(spread(torch.arange(1.0, 6.0)[:, None] * torch.ones(5, 8))) < 1e-6


def test_alignment_and_uniformity_equal_the_sums_of_the_paper():
    x, y = F.normalize(normal(6, 5), dim=1), F.normalize(normal(6, 5, seed=1), dim=1)
    distances = [((a - b) ** 2).sum().item() for a, b in zip(x, y, strict=True)]
    assert float(alignment(3 * x, y)) == pytest.approx(sum(distances) / 6, rel=1e-5)
    kernel = [
        math.exp(-2 * ((x[i] - x[j]) ** 2).sum().item())
        for i in range(6)
        for j in range(6)
        if i != j
    ]
    assert float(uniformity(2 * x)) == pytest.approx(math.log(sum(kernel) / 30), rel=1e-4)


def test_one_point_has_alignment_and_uniformity_zero():
    point = torch.ones(4, 3)
    assert float(alignment(point, 2 * point)) == pytest.approx(0, abs=1e-6)
    assert float(uniformity(point)) == pytest.approx(0, abs=1e-5)


def test_entropy_tells_sure_from_unsure_and_divergence_one_prototype_from_many():
    sure, unsure = torch.eye(4), torch.full((4, 4), 0.25)
    same = torch.tensor([[1.0, 0, 0, 0]]).expand(4, 4)
    assert float(entropy(sure)) == 0
    assert float(entropy(unsure)) == pytest.approx(math.log(4))
    assert float(divergence_from_uniform(sure)) == pytest.approx(0, abs=1e-6)
    assert float(divergence_from_uniform(same)) == pytest.approx(math.log(4))


@pytest.mark.parametrize("measure", [effective_rank, spread, uniformity])
def test_measures_are_float32_and_hold_no_gradient(measure):
    x = normal(6, 4).bfloat16().requires_grad_()
    value = measure(x)
    assert value.dtype == torch.float32
    assert value.shape == ()
    assert not value.requires_grad
