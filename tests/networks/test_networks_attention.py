from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from medssl.networks import attention as room
from medssl.networks.attention import attention, plain_is_quicker


def projections(tokens: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(2, tokens, 3, 4, 8, generator=generator).to(dtype)
    return tuple(t.requires_grad_() for t in qkv.permute(2, 0, 3, 1, 4))  # type: ignore[return-value]


def slow(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Row by row in float64."""
    out = torch.empty(q.shape, dtype=torch.float64)
    for b in range(q.shape[0]):
        for h in range(q.shape[1]):
            for i in range(q.shape[2]):
                scores = (k[b, h].double() * q[b, h, i].double()).sum(1) / q.shape[3] ** 0.5
                weights = scores.exp() / scores.exp().sum()
                out[b, h, i] = (weights[:, None] * v[b, h].double()).sum(0)
    return out


@pytest.mark.parametrize("way", [attention, room._plain])
def test_agrees_with_loops(way):
    q, k, v = projections(5, torch.float32)
    torch.testing.assert_close(way(q, k, v).double(), slow(q, k, v), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("way", [attention, room._plain])
def test_fewer_keys_than_queries(way):
    q, k, v = projections(6, torch.float32)
    k, v = k[:, :, :2], v[:, :, :2]
    torch.testing.assert_close(way(q, k, v).double(), slow(q, k, v), rtol=1e-5, atol=1e-6)


def test_both_ways_have_one_value_and_gradient():
    q, k, v = projections(7, torch.float64)
    weight = torch.randn(2, 4, 7, 8, dtype=torch.float64)
    results = []
    for way in (room._plain, F.scaled_dot_product_attention):
        value = way(q, k, v)
        results.append((value, *torch.autograd.grad((value * weight).sum(), (q, k, v))))
    for mine, fused in zip(*results, strict=True):
        torch.testing.assert_close(mine, fused)


def test_bf16_stays_close_to_the_exact_value():
    q, k, v = projections(9, torch.bfloat16)
    got = attention(q, k, v)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.double(), slow(q, k, v), rtol=0.02, atol=0.02)


def test_who_takes_which_way():
    # Speed alone depends on it; the benchmark measures where the border lies.
    few, many = (torch.empty(1, 1, n, 8, dtype=torch.bfloat16) for n in (216, 1728))
    assert plain_is_quicker(few)
    assert not plain_is_quicker(many)
    assert not plain_is_quicker(few.float())
    assert not plain_is_quicker(few.to("meta"))


def test_what_may_not_be_attended_to_has_no_influence():
    q, k, v = projections(6, torch.bfloat16)
    attend = torch.tensor([True, True, False, True, True, False])[None, None, None]
    value = attention(q, k, v, attend)
    other = v.detach().clone()
    other[:, :, [2, 5]] += 10
    assert torch.equal(attention(q, k, other, attend), value)
