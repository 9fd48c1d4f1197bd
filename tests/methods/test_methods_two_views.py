"""The methods that are a loss of two views' projections."""

from __future__ import annotations

import pytest
import torch
from method_cases import crops, make

from medssl.losses import DCL, BarlowTwins, NTXent, VICReg
from medssl.networks import pooled

LOSSES = {
    "simclr": ({"temperature": 0.5}, NTXent(0.5)),
    "dcl": ({"temperature": 0.5}, DCL(0.5)),
    "dcl, weighted": ({"temperature": 0.5, "weighted": True}, DCL(0.5, 0.5)),
    "vicreg": ({"invariance": 3, "variance": 2, "covariance": 4}, VICReg(3, 2, 4)),
    "barlow": ({"redundancy": 0.2}, BarlowTwins(0.2)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_it_is_its_loss_of_two_views(name):
    options, loss = LOSSES[name]
    method = make(name.split(",")[0], **options).eval()
    first, second = method.views(crops())
    assert not torch.equal(first, second)
    z = [method.projector(pooled(method.encoder(view))) for view in (first, second)]
    step = method.step(crops())
    torch.testing.assert_close(step.loss, loss(*z))
    for found, expected in zip(step.positives, z, strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ["simclr", "dcl", "barlow"])
def test_the_trivial_loss_is_that_of_one_point_for_all(name):
    method = make(name)
    same = torch.ones(4, 16)
    trivial = method.step(crops()).trivial_loss
    assert float(method._loss(same, same)) == pytest.approx(trivial, rel=1e-4)
