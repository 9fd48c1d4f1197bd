from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from torch import Tensor

from medssl.losses import RegionContrast

PARTITION = torch.tensor([0, 1, 0, 0])
VOLUME = torch.tensor([0, 0, 1, 0])


def cosine(a: list[float], b: list[float]) -> float:
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def slow(views: Tensor, lattice: tuple[int, ...], anchors: list[int], across: bool) -> float:
    """Equations 3 and 4 with loops over Python floats; temperature 0.3."""
    rows = views.double().tolist()
    places = list(product(*map(range, lattice)))
    numbers = range(views.shape[1])

    def term(a: list[float], b: list[float]) -> float:
        return math.exp(cosine(a, b) / 0.3)

    total, count = 0.0, 0
    for v, b, index in product((0, 1), numbers, anchors):
        anchor, here = rows[v][b][index], places[index]
        below = sum(
            term(anchor, rows[other][b][k])
            for other in (0, 1)
            for k, there in enumerate(places)
            if max(abs(x - y) for x, y in zip(here, there, strict=True)) == 1
        )
        positives = [rows[1 - v][b][index]]
        if across:
            positives += [
                rows[v][c][index]
                for c in numbers
                if PARTITION[c] == PARTITION[b] and VOLUME[c] != VOLUME[b]
            ]
        for positive in positives:
            near = term(anchor, positive)
            total, count = total - math.log(near / (near + below)), count + 1
    return total / count


def views(lattice: tuple[int, ...], n: int = 4, width: int = 5) -> Tensor:
    shape = (2, n, math.prod(lattice), width)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def asked(loss: RegionContrast, both: Tensor) -> Tensor:
    """Of the regions of two views those that the loss asks for."""
    return both[:, :, loss.places]


@pytest.mark.parametrize("lattice", [(3, 4), (1, 2), (2, 3, 2)])
@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("anchors", [3, 50])
def test_agrees_with_the_paper(lattice, across, anchors):
    loss, both = RegionContrast(lattice, anchors, 0.3), views(lattice)
    chosen = loss.anchors.tolist()
    assert len(set(chosen)) == min(anchors, math.prod(lattice))
    numbers = (PARTITION, VOLUME) if across else ()
    expected = slow(both, lattice, chosen, across)
    both = asked(loss, both)
    assert float(loss(*both, *numbers)) == pytest.approx(expected, rel=1e-5)
    assert float(loss(*both.double(), *numbers)) == pytest.approx(expected, rel=1e-12)


def test_known_value():
    # Two regions at right angles, alike in both views: positive 1, both opposites 0.
    z = torch.eye(2).expand(3, 2, 2)
    expected = -math.log(math.e / (math.e + 2))
    assert float(RegionContrast((1, 2), 2, 1.0)(z, z)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("across", [False, True])
def test_invariances(across):
    loss = RegionContrast((3, 3), 4, 0.3)
    first, second = asked(loss, views((3, 3)))
    numbers = (PARTITION, VOLUME) if across else ()
    value = loss(first, second, *numbers)
    order = torch.tensor([2, 0, 3, 1])
    scale = torch.rand(4, len(loss.places), 1) + 0.5
    rotation = torch.linalg.qr(torch.randn(5, 5))[0]
    moved = [n[order] for n in numbers]
    for same in (
        loss(first[order], second[order], *moved),
        loss(first * scale, second / scale, *numbers),
        loss(second, first, *numbers),
        loss(first @ rotation, second @ rotation, *numbers),
    ):
        torch.testing.assert_close(same, value)
    assert not torch.isclose(loss(first, second.flip(1), *numbers), value)


def test_places_that_do_not_touch_an_anchor_are_not_asked_for():
    loss = RegionContrast((1, 9), 1, 0.3)
    place = int(loss.anchors[0])
    assert loss.places.tolist() == [k for k in range(9) if abs(k - place) <= 1]
    first, second = asked(loss, views((1, 9)))
    first.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(first, second), first)
    assert (gradient.abs().sum((0, 2)) > 0).all()


@pytest.mark.parametrize("across", [False, True])
def test_following_the_gradient_lowers_it(across):
    loss = RegionContrast((2, 3), 6, 0.5)
    first, second = (z.clone().requires_grad_() for z in views((2, 3)))
    numbers = (PARTITION, VOLUME) if across else ()
    values = []
    for _ in range(5):
        value = loss(first, second, *numbers)
        g1, g2 = torch.autograd.grad(value, (first, second))
        with torch.no_grad():
            first -= g1
            second -= g2
        values.append(float(value.detach()))
    assert values == sorted(values, reverse=True)
    assert values[-1] < values[0] - 0.02


def test_gradient_agrees_with_finite_differences():
    loss = RegionContrast((2, 2), 3, 0.3)
    pair = [z.requires_grad_() for z in views((2, 2), width=3).double()]
    assert torch.autograd.gradcheck(lambda a, b: loss(a, b, PARTITION, VOLUME), pair)


def test_computes_in_float32_inside_autocast():
    loss, both = RegionContrast((2, 2)), views((2, 2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss(*both)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, loss(*both))


def test_refusals():
    loss, (first, second) = RegionContrast((2, 2)), views((2, 2))
    assert loss.places.tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match=r"regions of two views are \(B, 4, D\)"):
        loss(first, second[:, :3])
    with pytest.raises(ValueError, match=r"regions of two views are \(B, 4, D\)"):
        loss(first[:, :3], second[:, :3])
    with pytest.raises(ValueError, match="a partition and a volume each"):
        loss(first, second, PARTITION, VOLUME[:2])
    with pytest.raises(ValueError, match="above 0"):
        RegionContrast((2, 2), temperature=0)
    for lattice, anchors in (((1, 1), 3), ((0, 4), 3), ((2, 2), 0)):
        with pytest.raises(ValueError, match="no region beside another"):
            RegionContrast(lattice, anchors)
