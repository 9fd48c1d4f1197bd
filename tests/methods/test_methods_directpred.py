from __future__ import annotations

import torch
import torch.nn.functional as F
from method_cases import crops, make

from medssl.networks import DirectPredictor, pooled


def test_the_predictor_is_computed_from_both_views_before_it_is_used():
    method = make("directpred")
    views = method.views(crops())
    z = method.projector(pooled(method.encoder(torch.cat(views)))).detach()
    expected = DirectPredictor(8)
    p = expected(z)
    taught = method.teacher(torch.cat(views))[1].roll(4, 0)
    step = method.step(crops())
    torch.testing.assert_close(method.predictor.weight, expected.weight)
    torch.testing.assert_close(step.loss, -F.cosine_similarity(p, taught).mean())


def test_the_predictor_is_state_and_nothing_of_it_is_trained():
    method = make("directpred")
    assert {"predictor.correlation", "predictor.weight"} <= set(method.state_dict())
    assert not list(method.predictor.parameters())
