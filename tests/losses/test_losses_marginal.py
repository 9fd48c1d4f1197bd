from __future__ import annotations

import math

import pytest
import torch

from medssl.losses import DiceCE, marginal_logits

KNOWN = torch.tensor([[True, True, True, True], [True, False, True, False], [True] + [False] * 3])


def case(dims: int, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of four classes for three images, and labels of the classes each is annotated for."""
    generator = torch.Generator().manual_seed(dims)
    size = (5, 6, 4)[:dims]
    logits = torch.randn(3, 4, *size, generator=generator, dtype=dtype) * 3
    label = torch.randint(0, 4, (3, 1, *size), generator=generator)
    return logits, torch.where(KNOWN.gather(1, label.flatten(1)).reshape(label.shape), label, 0)


def slow(row: list[float], known: list[bool]) -> list[float]:
    """The probabilities of one voxel with Python floats."""
    total = math.fsum(math.exp(v) for v in row)
    p = [math.exp(v) / total for v in row]
    hidden = math.fsum(v for v, k in list(zip(p, known, strict=True))[1:] if not k)
    return [p[0] + hidden] + [v if k else 0.0 for v, k in list(zip(p, known, strict=True))[1:]]


@pytest.mark.parametrize("dims", [2, 3])
def test_probabilities_agree_with_a_loop(dims: int) -> None:
    logits, _ = case(dims)
    got = marginal_logits(logits, KNOWN).softmax(1).flatten(2)
    for b, known in enumerate(KNOWN.tolist()):
        for voxel, row in enumerate(logits[b].flatten(1).T.tolist()):
            expected = torch.tensor(slow(row, known), dtype=torch.float64)
            torch.testing.assert_close(got[b, :, voxel], expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("skip_absent", [False, True])
def test_dice_and_cross_entropy_agree_with_a_loop(skip_absent: bool) -> None:
    """A class that is not known costs no Dice, as one that is right does."""
    logits, label = case(3)
    entropy, costs = 0.0, []
    for b, known in enumerate(KNOWN.tolist()):
        q = [slow(row, known) for row in logits[b].flatten(1).T.tolist()]
        truth = label[b].flatten().tolist()
        entropy -= math.fsum(math.log(v[t]) for v, t in zip(q, truth, strict=True)) / label.numel()
        for c in range(1, 4):
            overlap = math.fsum(v[c] for v, t in zip(q, truth, strict=True) if t == c)
            both = math.fsum(v[c] for v in q) + truth.count(c)
            if known[c] or not skip_absent:
                costs.append(1 - (2 * overlap + 1e-5) / (both + 1e-5) if known[c] else 0.0)
    got = DiceCE(skip_absent=skip_absent)(marginal_logits(logits, KNOWN), label)
    assert float(got) == pytest.approx(entropy + sum(costs) / len(costs), rel=1e-12)


def test_where_everything_is_known_nothing_changes() -> None:
    logits, label = case(3)
    got = DiceCE()(marginal_logits(logits, torch.ones_like(KNOWN)), label)
    torch.testing.assert_close(got, DiceCE()(logits, label), rtol=1e-12, atol=0)


def test_a_structure_nobody_looked_for_may_be_predicted_in_the_background() -> None:
    """Moving probability between background and an unknown class costs nothing; its gradient is
    the one of a single merged class."""
    logits, label = case(3)
    sure = logits.clone()
    sure[1, 0], sure[1, 1] = logits[1, 1], logits[1, 0]
    loss = DiceCE()
    before = loss(marginal_logits(logits, KNOWN), label)
    torch.testing.assert_close(loss(marginal_logits(sure, KNOWN), label), before)
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(marginal_logits(logits, KNOWN), label), logits)
    assert gradient.isfinite().all()
    assert gradient[2].abs().max() <= 1e-12  # nothing is known of it: nothing is to be learned
    share = logits[1, [0, 1, 3]].softmax(0)
    merged = gradient[1, [0, 1, 3]].sum(0)
    torch.testing.assert_close(gradient[1, 1], share[1] * merged, rtol=1e-8, atol=1e-12)


def test_half_precision_is_computed_in_float32() -> None:
    logits, _ = case(2, torch.float32)
    got = marginal_logits(logits.bfloat16(), KNOWN)
    assert got.dtype == torch.float32
    assert torch.equal(got, marginal_logits(logits.bfloat16().float(), KNOWN))


def test_a_label_that_should_not_be_there_does_not_pass_unnoticed() -> None:
    logits, label = case(2)
    label[1, 0, 0, 0] = 3
    assert not DiceCE()(marginal_logits(logits, KNOWN), label).isfinite()


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"\(B, classes\)"):
        marginal_logits(torch.zeros(3, 4, 5, 5), KNOWN[:2])
