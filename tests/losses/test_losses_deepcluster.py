from __future__ import annotations

import math

import pytest
import torch

from medssl.losses import DeepCluster


def scores(views: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return list(2 * torch.rand(views, 5, 4, generator=generator, dtype=torch.float64) - 1)


def test_it_is_the_formula():
    found, clusters = scores(3), torch.tensor([3, 0, 0, 2, 1])
    terms = [
        math.log(sum(math.exp(value / 0.2) for value in row)) - row[cluster] / 0.2
        for view in found
        for row, cluster in zip(view.tolist(), clusters.tolist(), strict=True)
    ]
    value = float(DeepCluster(0.2)(found, clusters))
    assert value == pytest.approx(sum(terms) / len(terms), rel=1e-10)


def test_known_values_and_the_order_of_samples():
    loss, clusters = DeepCluster(), torch.tensor([0, 1, 2, 3, 0])
    even = [torch.zeros(5, 4)] * 2
    assert float(loss(even, clusters)) == pytest.approx(math.log(4))
    a, b = scores()
    order = torch.randperm(5)
    assert float(loss([b[order], a[order]], clusters[order])) == pytest.approx(
        float(loss([a, b], clusters))
    )


def test_following_the_gradient_lowers_it():
    loss, clusters = DeepCluster(), torch.tensor([0, 1, 2, 3, 0])
    rows = torch.stack(scores()).requires_grad_()
    before = loss(list(rows), clusters)
    (gradient,) = torch.autograd.grad(before, rows)
    moved = rows.detach() - 0.01 * gradient
    assert float(loss(list(moved), clusters)) < float(before.detach())


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match=r"not \(2,\) with \[\(3, 4\)\]"):
        DeepCluster()([torch.zeros(3, 4)] * 2, torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"not \(3,\) with"):
        DeepCluster()([], torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match="temperature"):
        DeepCluster(0.0)
