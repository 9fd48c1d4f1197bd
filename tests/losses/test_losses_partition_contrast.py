from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from medssl.losses import PartitionContrast

PARTITION = torch.tensor([0, 2, 0, 1, 2, 0])
VOLUME = torch.tensor([0, 0, 1, 1, 2, 0])


def cosine(a: list[float], b: list[float]) -> float:
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def slow(z1: Tensor, z2: Tensor, temperature: float, partitions: bool) -> float:
    """The paper's sum over pairs, with loops over Python floats."""
    rows = {(v, i): row for v, z in enumerate((z1, z2)) for i, row in enumerate(z.tolist())}
    part, volume = PARTITION.tolist(), VOLUME.tolist()

    def term(a: tuple[int, int], b: tuple[int, int]) -> float:
        return math.exp(cosine(rows[a], rows[b]) / temperature)

    def loss(a: tuple[int, int], b: tuple[int, int]) -> float:
        below = sum(term(a, n) for n in rows if part[n[1]] != part[a[1]])
        return -math.log(term(a, b) / (term(a, b) + below))

    pairs = [((v, i), (1 - v, i)) for v in (0, 1) for i in range(len(z1))]
    if partitions:
        pairs += [
            ((v, i), (v, j))
            for v in (0, 1)
            for i in range(len(z1))
            for j in range(len(z1))
            if part[i] == part[j] and volume[i] != volume[j]
        ]
    return sum(loss(a, b) for a, b in pairs) / len(pairs)


def views(n: int = 6, width: int = 5) -> tuple[Tensor, Tensor]:
    z = torch.randn(2, n, width, generator=torch.Generator().manual_seed(0))
    return z[0], z[1]


@pytest.mark.parametrize("temperature", [0.1, 0.5])
@pytest.mark.parametrize("positives", ["views", "partitions"])
def test_agrees_with_the_paper(positives, temperature: float):
    z1, z2 = views()
    expected = slow(z1.double(), z2.double(), temperature, positives == "partitions")
    loss = PartitionContrast(temperature, positives)
    assert float(loss(z1, z2, PARTITION, VOLUME)) == pytest.approx(expected, rel=1e-4)
    double = loss(z1.double(), z2.double(), PARTITION, VOLUME)
    assert float(double) == pytest.approx(expected, rel=1e-12)


def test_known_values():
    # Identical views at right angles: the positive is 1, the two opposites are 0.
    z, own = torch.eye(2), torch.arange(2)
    one = -math.log(math.e / (math.e + 2))
    for positives in ("views", "partitions"):
        loss = PartitionContrast(1.0, positives)
        assert float(loss(z, z, own, own)) == pytest.approx(one, rel=1e-6)
        # of one partition there are no opposites, so nothing is asked
        assert float(loss(z, z, own * 0, own)) == 0.0


def test_without_opposites_the_gradient_is_zero_and_not_missing():
    z1, z2 = (z.requires_grad_() for z in views())
    value = PartitionContrast()(z1, z2, torch.zeros_like(PARTITION), VOLUME)
    for gradient in torch.autograd.grad(value, (z1, z2)):
        assert not gradient.any()


def test_crops_of_the_same_partition_are_no_opposites():
    z1, z2 = views(3)
    z1[1] = z2[1] = z1[0]  # the second crop is like the first, and as far from the third
    loss, part, volume = PartitionContrast(0.2, "views"), torch.tensor([0, 0, 1]), torch.arange(3)
    apart = loss(z1, z2, torch.arange(3), volume)
    assert float(apart) > float(loss(z1, z2, part, volume)) + 0.1


def test_partitions_pair_crops_of_other_volumes_alone():
    z1, z2 = views()
    one, other = (PartitionContrast(0.2, p) for p in ("views", "partitions"))
    alone = torch.zeros_like(VOLUME)
    torch.testing.assert_close(other(z1, z2, PARTITION, alone), one(z1, z2, PARTITION, alone))
    assert not torch.isclose(other(z1, z2, PARTITION, VOLUME), one(z1, z2, PARTITION, VOLUME))


@pytest.mark.parametrize("positives", ["views", "partitions"])
def test_invariances(positives):
    z1, z2 = views()
    loss = PartitionContrast(0.2, positives)
    value = loss(z1, z2, PARTITION, VOLUME)
    order = torch.tensor([3, 0, 5, 1, 2, 4])
    scale = torch.rand(6, 1) + 0.5
    rotation = torch.linalg.qr(torch.randn(5, 5))[0]
    for same in (
        loss(z1[order], z2[order], PARTITION[order], VOLUME[order]),
        loss(z1 * scale, z2 / scale, PARTITION, VOLUME),
        loss(z2, z1, PARTITION, VOLUME),
        loss(z1 @ rotation, z2 @ rotation, PARTITION, VOLUME),
        loss(z1, z2, 7 - PARTITION, 3 * VOLUME + 1),  # numbers are names
    ):
        torch.testing.assert_close(same, value)
    assert not torch.isclose(loss(z1, z2, PARTITION[order], VOLUME), value)


@pytest.mark.parametrize("positives", ["views", "partitions"])
def test_following_the_gradient_lowers_it(positives):
    z1, z2 = (z.requires_grad_() for z in views())
    loss = PartitionContrast(0.5, positives)
    values = []
    for _ in range(5):
        value = loss(z1, z2, PARTITION, VOLUME)
        g1, g2 = torch.autograd.grad(value, (z1, z2))
        with torch.no_grad():
            z1 -= g1
            z2 -= g2
        values.append(float(value.detach()))
    assert values == sorted(values, reverse=True)
    assert values[-1] < values[0] - 0.1


def test_gradient_agrees_with_finite_differences():
    z1, z2 = (z.double().requires_grad_() for z in views())
    assert torch.autograd.gradcheck(
        lambda a, b: PartitionContrast(0.3)(a, b, PARTITION, VOLUME), (z1, z2)
    )


def test_computes_in_float32_inside_autocast():
    z1, z2 = views()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = PartitionContrast()(z1, z2, PARTITION, VOLUME)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, PartitionContrast()(z1, z2, PARTITION, VOLUME))


def test_refusals():
    z1, z2 = views()
    loss = PartitionContrast()
    with pytest.raises(ValueError, match=r"two views of shape \(B, D\)"):
        loss(z1, z2[:, :3], PARTITION, VOLUME)
    with pytest.raises(ValueError, match="a partition and a volume each"):
        loss(z1, z2, PARTITION[:4], VOLUME)
    with pytest.raises(ValueError, match="at least two samples"):
        loss(z1[:1], z2[:1], PARTITION[:1], VOLUME[:1])
    with pytest.raises(ValueError, match="above 0"):
        PartitionContrast(0)
    with pytest.raises(ValueError, match="views or partitions"):
        PartitionContrast(0.1, "crops")
