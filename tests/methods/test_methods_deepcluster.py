from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from method_cases import crops, make
from torch import Tensor

from medssl.losses import DeepCluster, sinkhorn
from medssl.networks import pooled


def run(method, steps, first=0, count=4):
    """Steps over volumes in order, without an optimiser."""
    for number in range(first, first + steps):
        method.number = number
        method.step(crops(count, first=count * number))
        method.after_update(0.0)


def test_it_is_cross_entropy_with_the_volumes_clusters():
    method = make("deepcluster").eval()
    batch = crops()
    method.assignments[:, batch.volume] = torch.tensor([[1, 5, 0, 1], [9, 0, 0, 3]])
    z = [F.normalize(method.projector(pooled(method.encoder(v)))) for v in method.views(batch)]
    losses = []
    for head, known in zip(method.prototypes, method.assignments, strict=True):
        losses.append(DeepCluster(0.1)([rows @ head.weight.T for rows in z], known[batch.volume]))
    step = method.step(batch)
    torch.testing.assert_close(step.loss, torch.stack(losses).mean())
    assert step.trivial_loss == pytest.approx((math.log(6) + math.log(10)) / 2)
    expected = F.normalize(z[0] + z[1])
    torch.testing.assert_close(method.memory.rows[batch.volume], expected)


def test_volumes_that_were_in_no_clustering_are_shared_out_evenly():
    method = make("deepcluster")
    scores, known = torch.rand(12, 6), torch.full((12,), -1)
    known[3] = 5
    found = method._clusters(known, scores)
    even = sinkhorn(scores).argmax(1)
    assert found[3] == 5
    assert torch.equal(found[known < 0], even[known < 0])
    assert even.bincount(minlength=6).max() < 6


def test_clusters_are_made_at_the_interval_of_the_volumes_seen():
    method = make("deepcluster", every=3).eval()
    start = [head.weight.clone() for head in method.prototypes]
    run(method, 2)
    assert (method.assignments == -1).all()
    run(method, 1, first=2)
    assert (method.assignments[:, :12] >= 0).all()
    assert (method.assignments[:, 12:] == -1).all()
    for head, before, known in zip(method.prototypes, start, method.assignments, strict=True):
        assert not torch.equal(head.weight, before)
        scores: Tensor = method.memory.rows[:12] @ head.weight.T
        assert torch.equal(scores.argmax(1), known[:12])
        assert not head.weight.requires_grad
    # With twelve volumes and six or ten prototypes none is left over.
    assert [len(known[:12].unique()) for known in method.assignments] == [6, 10]


def test_the_interval_is_an_epoch_where_none_is_given():
    method = make("deepcluster", every=None).eval()
    run(method, 7, count=8)
    assert (method.assignments == -1).all()
    run(method, 1, first=7, count=8)
    assert (method.assignments >= 0).all()


def test_clusters_depend_on_the_seed_and_the_state_alone():
    first, again, other = (make("deepcluster", every=3).eval() for _ in range(3))
    again.load_state_dict(first.state_dict())
    other.seed.add_(1)
    for method in (first, again, other):
        run(method, 3)
    assert torch.equal(first.assignments, again.assignments)
    assert not torch.equal(first.assignments, other.assignments)
    kept = make("deepcluster", every=3).eval()
    torch.manual_seed(5)
    kept.load_state_dict(first.state_dict())
    for method in (first, kept):
        run(method, 3, first=3)
    assert torch.equal(first.assignments, kept.assignments)
    for name, value in first.state_dict().items():
        assert torch.equal(value, kept.state_dict()[name])
