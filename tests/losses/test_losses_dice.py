from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from medssl.losses import DiceCE


def case(dims: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    size = (5, 6, 4)[:dims]
    logits = torch.randn(2, 3, *size, generator=generator)
    return logits, torch.randint(0, 3, (2, 1, *size), generator=generator, dtype=torch.uint8)


def slow(logits: Tensor, label: Tensor, background: bool) -> float:
    """Voxel by voxel with Python floats."""
    entropy, dices, voxels = 0.0, [], label.numel()
    for b in range(len(logits)):
        rows = logits[b].double().flatten(1).T.tolist()
        truth = label[b].flatten().tolist()
        probabilities = []
        for row, t in zip(rows, truth, strict=True):
            total = sum(math.exp(v) for v in row)
            probabilities.append([math.exp(v) / total for v in row])
            entropy -= math.log(probabilities[-1][t]) / voxels
        for c in range(0 if background else 1, logits.shape[1]):
            overlap = sum(p[c] for p, t in zip(probabilities, truth, strict=True) if t == c)
            both = sum(p[c] for p in probabilities) + truth.count(c)
            dices.append((2 * overlap + 1e-5) / (both + 1e-5))
    return entropy + 1 - sum(dices) / len(dices)


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("dims", [2, 3])
def test_agrees_with_a_loop(dims: int, background: bool):
    logits, label = case(dims)
    got = DiceCE(include_background=background)(logits, label)
    assert float(got) == pytest.approx(slow(logits, label, background), rel=1e-5)


@pytest.mark.slow  # importing MONAI takes seconds
def test_agrees_with_monai():
    losses = pytest.importorskip("monai.losses")
    logits, label = case(3)
    oracle = losses.DiceCELoss(
        include_background=False, to_onehot_y=True, softmax=True, smooth_nr=1e-5, smooth_dr=1e-5
    )
    torch.testing.assert_close(DiceCE()(logits, label), oracle(logits, label))


def test_perfect_and_absent_classes_cost_nothing():
    label = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    label[..., :2] = 1
    logits = torch.full((1, 3, 4, 4), -100.0).scatter_(1, label.long(), 100.0)
    assert float(DiceCE()(logits, label)) == pytest.approx(0.0, abs=1e-6)


def test_following_the_gradient_lowers_it():
    logits, label = case(3)
    logits.requires_grad_()
    before = DiceCE()(logits, label)
    (gradient,) = torch.autograd.grad(before, logits)
    assert DiceCE()(logits - 10 * gradient, label) < before


def test_computes_in_float32_inside_autocast():
    logits, label = case(3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = DiceCE()(logits.bfloat16(), label)
    assert got.dtype == torch.float32
    assert torch.equal(got, DiceCE()(logits.bfloat16().float(), label))


def test_refusals():
    logits, label = case(3)
    with pytest.raises(ValueError, match=r"\(B, 1, \*spatial\)"):
        DiceCE()(logits, label[:, 0])
    with pytest.raises(ValueError, match="two classes"):
        DiceCE()(logits[:, :1], label)


def test_absent_classes_can_be_left_out() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 6, 6, generator=generator, dtype=torch.float64)
    label = torch.randint(0, 2, (2, 1, 6, 6), generator=generator)
    label[1, 0, 0] = 3
    p = logits.softmax(1)
    terms = []
    for sample, classes in ((0, (1,)), (1, (1, 3))):
        for c in classes:
            g = (label[sample, 0] == c).double()
            terms.append(1 - 2 * (p[sample, c] * g).sum() / (p[sample, c].sum() + g.sum()))
    entropy = -p.log().gather(1, label).mean()
    expected = torch.stack(terms).mean() + entropy
    torch.testing.assert_close(DiceCE(skip_absent=True)(logits, label), expected, rtol=1e-5, atol=0)
    nothing = torch.zeros_like(label)
    torch.testing.assert_close(
        DiceCE(skip_absent=True)(logits, nothing), -p[:, 0].log().mean(), rtol=1e-9, atol=0
    )
