from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from medssl.networks import CrossAttention
from medssl.networks.casa import pooled_to
from medssl.networks.vit import sincos_positions


def made() -> CrossAttention:
    torch.manual_seed(0)
    return CrossAttention(5, 6, width=24, heads=2).double()


def inputs(dims: int):
    generator = torch.Generator().manual_seed(1)
    queries = torch.randn(2, 5, *(2, 3, 2)[:dims], generator=generator).double()
    features = torch.randn(2, 6, *(4, 6, 4)[:dims], generator=generator).double()
    return queries, features


@pytest.mark.parametrize("dims", [2, 3])
def test_agrees_with_a_slow_formula(dims):
    """Query by query and head by head."""
    net, (queries, features) = made(), inputs(dims)
    got = net(queries, features)
    grid = tuple(features.shape[2:])
    places = sincos_positions(grid, 24, torch.device("cpu")).double()
    blocks = places.T.reshape(24, *grid)
    for axis in range(dims):
        blocks = blocks.unflatten(1 + axis, (-1, 2)).mean(2 + axis)
    asked = blocks.flatten(1).T
    for b in range(2):
        q = net.query(F.layer_norm(queries[b].flatten(1).T, (5,))) + asked
        k, v = net.key_value(F.layer_norm(features[b].flatten(1).T, (6,))).chunk(2, dim=1)
        k = k + places
        for i in range(len(q)):
            read = []
            for head in (slice(0, 12), slice(12, 24)):
                scores = [(q[i, head] @ row[head]).item() / 12**0.5 for row in k]
                share = torch.tensor(scores).double().softmax(0)
                read.append(sum(s * row[head] for s, row in zip(share, v, strict=True)))
            token = net.out(torch.cat(read))
            token = token + net.mlp(net.norm(token))
            torch.testing.assert_close(got[b, i], token)


def test_what_is_asked_with_is_no_part_of_what_is_read():
    """Of constant features nothing but these is read, whatever the query."""
    net, (queries, features) = made(), inputs(2)
    flat = torch.ones_like(features) * torch.arange(6).reshape(6, 1, 1)
    one, other = net(queries, flat), net(queries.flip(0) * 3, flat)
    torch.testing.assert_close(one, other)
    assert not torch.allclose(net(queries, features), net(queries.flip(0), features))


def test_tokens_of_other_samples_have_no_part():
    net, (queries, features) = made(), inputs(2)
    torch.testing.assert_close(net(queries[:1], features[:1]), net(queries, features)[:1])


def test_pooling_is_the_mean_of_a_cells_voxels():
    features = torch.arange(16.0).reshape(1, 1, 4, 4)
    wanted = torch.tensor([[2.5, 4.5, 10.5, 12.5]]).T[None]
    assert torch.equal(pooled_to(features, (2, 2)), wanted)
    assert torch.equal(pooled_to(features, (4, 4)), features.flatten(2).transpose(1, 2))


def test_refusals():
    with pytest.raises(ValueError, match="do not divide"):
        CrossAttention(5, 6, width=24, heads=5)
    queries, features = inputs(2)
    with pytest.raises(ValueError, match="same images"):
        made()(queries[:1], features)
    with pytest.raises(ValueError, match="same images"):
        made()(queries[:, :, 0], features)
