from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from medssl.losses import SwAV


def slow(scores: list[Tensor], codes: list[Tensor], temperature: float) -> float:
    """Every pair of views, sample and prototype on its own."""
    terms = []
    for a, code in enumerate(codes):
        for v, score in enumerate(scores):
            if v == a:
                continue
            for q, s in zip(code.tolist(), score.tolist(), strict=True):
                total = sum(math.exp(value / temperature) for value in s)
                shares = [math.exp(value / temperature) / total for value in s]
                terms.append(-sum(w * math.log(p) for w, p in zip(q, shares, strict=True)))
    return sum(terms) / len(terms)


def views(count: int, rows: int = 5, prototypes: int = 4) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    scores = torch.rand(count, rows, prototypes, generator=generator, dtype=torch.float64)
    return list(2 * scores - 1)


@pytest.mark.parametrize(("count", "assigning"), [(2, 2), (4, 2), (3, 1)])
def test_it_is_the_papers_formula(count: int, assigning: int):
    scores, loss = views(count), SwAV(0.3)
    codes = [loss.assign(s) for s in scores[:assigning]]
    found = float(loss(scores, codes))
    assert found == pytest.approx(slow(scores, codes, 0.3), rel=1e-10)


def test_known_values():
    loss = SwAV(1.0)
    even = torch.zeros(3, 8)
    assert float(loss([even, even], [loss.assign(even)] * 2)) == pytest.approx(math.log(8))
    sure = 40 * torch.eye(3)
    assert float(loss([sure, sure], [torch.eye(3)] * 2)) == pytest.approx(0.0, abs=1e-6)
    wrong = [torch.eye(3)[[1, 2, 0]]] * 2
    assert float(loss([sure, sure], wrong)) == pytest.approx(40.0, rel=1e-5)


def test_the_order_of_samples_prototypes_and_assigning_views_does_not_matter():
    (a, b), loss = views(2), SwAV()

    def value(a: Tensor, b: Tensor) -> float:
        return float(loss([a, b], [loss.assign(a), loss.assign(b)]))

    rows, columns = torch.randperm(5), torch.randperm(4)
    assert value(b, a) == pytest.approx(value(a, b))
    assert value(a[rows], b[rows]) == pytest.approx(value(a, b))
    assert value(a[:, columns], b[:, columns]) == pytest.approx(value(a, b))


def test_assignments_have_no_gradient_and_following_it_lowers_the_loss():
    loss, scores = SwAV(), torch.stack(views(3)).requires_grad_()
    before = loss(list(scores), [loss.assign(s) for s in scores[:2]])
    codes = [loss.assign(s) for s in scores[:2]]
    (gradient,) = torch.autograd.grad(before, scores)
    # The small third view is predicted from, and assigns nothing: all its gradient is prediction.
    assert gradient.abs().sum(dim=(1, 2)).min() > 0
    moved = scores.detach() - 0.01 * gradient
    assert float(loss(list(moved), codes)) < float(before.detach())


def test_wrong_shapes_are_refused():
    loss = SwAV()
    with pytest.raises(ValueError, match="two or more views"):
        loss([torch.zeros(2, 3)], [torch.zeros(2, 3)])
    with pytest.raises(ValueError, match="two or more views"):
        loss([torch.zeros(2, 3)] * 2, [])
    with pytest.raises(ValueError, match=r"one shape \(B, K\)"):
        loss([torch.zeros(2, 3), torch.zeros(3, 3)], [torch.zeros(2, 3)])
    with pytest.raises(ValueError, match="temperature"):
        SwAV(0.0)
