from __future__ import annotations

import torch
import torch.nn.functional as F
from method_cases import crops, make

from medssl.methods import method_class
from medssl.networks import pooled


def test_it_is_the_symmetric_negative_cosine():
    method = make("simsiam").eval()
    z1, z2 = (method.projector(pooled(method.encoder(v))) for v in method.views(crops()))
    p1, p2 = method.predictor(z1), method.predictor(z2)
    expected = -(F.cosine_similarity(p1, z2) + F.cosine_similarity(p2, z1)).mean() / 2
    torch.testing.assert_close(method.step(crops()).loss, expected)


def test_gradient_flows_through_the_predictor_alone():
    """So a predictor that gives the same for every input teaches the encoder nothing."""
    method = make("simsiam")
    with torch.no_grad():
        method.predictor[-1].weight.zero_()
        method.predictor[-1].bias.fill_(1.0)
    method.step(crops()).loss.backward()
    assert not any(p.grad.any() for p in method.encoder.parameters())


def test_the_predictor_is_a_bottleneck():
    config = method_class("simsiam").Config()
    assert (config.projector_layers, config.predictor_hidden * 4) == (3, config.projection)
