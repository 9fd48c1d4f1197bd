from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from medssl.losses import InterDimension, sinkhorn


def drawn(views: int, rows: int = 5, prototypes: int = 4, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(views, rows, prototypes, generator=generator, dtype=torch.float64) - 1


def codes_of(scores: Tensor) -> Tensor:
    return torch.stack([sinkhorn(view, 0.5) for view in scores])


def slow(volumes: Tensor, slices: Tensor, temperature: float) -> float:
    """Every sample, every view of the one that assigns and of the one that predicts."""
    total = 0.0
    for teller, learner in ((volumes, slices), (slices, volumes)):
        told = codes_of(teller).tolist()
        for sample in range(volumes.shape[1]):
            terms = []
            for code in told:
                for scores in learner.tolist():
                    exps = [math.exp(s / temperature) for s in scores[sample]]
                    pairs = zip(code[sample], exps, strict=True)
                    terms.append(-sum(q * math.log(e / sum(exps)) for q, e in pairs))
            total += sum(terms) / len(terms) / volumes.shape[1]
    return total / 2


@pytest.mark.parametrize(("volumes", "slices"), [(2, 2), (2, 6), (1, 3)])
def test_it_is_every_pair_of_a_volume_and_a_slice(volumes: int, slices: int):
    v, w = drawn(volumes), drawn(slices, seed=2)
    found = float(InterDimension(0.3)(v, codes_of(v), w, codes_of(w)))
    assert found == pytest.approx(slow(v, w, 0.3), rel=1e-10)


def test_known_values():
    loss, even, sure = InterDimension(1.0), torch.zeros(2, 3, 8), 40 * torch.eye(3)[None]
    uniform = torch.full((2, 3, 8), 1 / 8)
    assert float(loss(even, uniform, even, uniform)) == pytest.approx(math.log(8))
    assert float(loss(sure, sure / 40, sure, sure / 40)) == pytest.approx(0.0, abs=1e-6)
    turned = sure.roll(1, dims=2)
    assert float(loss(sure, sure / 40, turned, turned / 40)) == pytest.approx(40.0, rel=1e-5)


def test_order_and_side_do_not_matter():
    v, w, loss = drawn(2), drawn(4, seed=2), InterDimension()

    def value(v: Tensor, w: Tensor) -> float:
        return float(loss(v, codes_of(v), w, codes_of(w)))

    rows, columns = torch.randperm(5), torch.randperm(4)
    assert value(w, v) == pytest.approx(value(v, w))
    assert value(v.flip(0), w[[2, 0, 3, 1]]) == pytest.approx(value(v, w))
    assert value(v[:, rows], w[:, rows]) == pytest.approx(value(v, w))
    assert value(v[..., columns], w[..., columns]) == pytest.approx(value(v, w))
    assert value(v, w[:, rows.roll(1)]) != pytest.approx(value(v, w))


def test_assignments_have_no_gradient_and_following_it_lowers_the_loss():
    loss = InterDimension()
    v, w = drawn(2).requires_grad_(), drawn(4, seed=2).requires_grad_()
    codes = codes_of(v).requires_grad_(), codes_of(w).requires_grad_()
    before = loss(v, codes[0], w, codes[1])
    gradients = torch.autograd.grad(before, (v, w, *codes), allow_unused=True)
    assert gradients[2:] == (None, None)
    moved = [t.detach() - 0.1 * g for t, g in zip((v, w), gradients[:2], strict=True)]
    assert float(loss(moved[0], codes[0], moved[1], codes[1])) < float(before.detach())


def test_wrong_shapes_are_refused():
    loss, v = InterDimension(), drawn(2)
    for w in (drawn(2, rows=4), drawn(2, prototypes=3), drawn(2)[0], drawn(2)[:0]):
        with pytest.raises(ValueError, match=r"\(views, B, K\)"):
            loss(v, v, w, w)
    with pytest.raises(ValueError, match=r"\(views, B, K\)"):
        loss(v, v[:1], v, v)
    with pytest.raises(ValueError, match="temperature"):
        InterDimension(0.0)
