from __future__ import annotations

import math

import torch
from method_cases import crops, make

from medssl.losses import InfoNCE
from medssl.networks import pooled


def test_it_finds_the_teachers_other_view_among_all_in_both_directions():
    method = make("moco", temperature=0.5).eval()
    with torch.no_grad():
        for parameter in method.teacher.parameters():
            parameter.mul_(1.1)
    views = method.views(crops())
    q1, q2 = (method.predictor(method.projector(pooled(method.encoder(v)))) for v in views)
    k1, k2 = (method.teacher(view)[1] for view in views)
    step = method.step(crops())
    torch.testing.assert_close(step.loss, InfoNCE(0.5)(q1, k2) + InfoNCE(0.5)(q2, k1))


def test_the_loss_of_a_network_that_gives_all_the_same_is_known():
    method = make("moco", temperature=0.1)
    with torch.no_grad():
        for head in (method.predictor, method.teacher.module.projector):
            head[-1].weight.zero_()
            head[-1].bias.fill_(1.0)
    step = method.step(crops(6))
    assert step.trivial_loss == 2 * 0.2 * math.log(6)
    torch.testing.assert_close(float(step.loss.detach()), step.trivial_loss)


def test_keys_get_no_gradient():
    method = make("moco")
    method.step(crops()).loss.backward()
    assert all(p.grad is None for p in method.teacher.parameters())
