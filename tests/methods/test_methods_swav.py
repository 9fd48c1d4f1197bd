from __future__ import annotations

import math

import torch
from method_cases import crops, make

from medssl.losses import SwAV
from medssl.networks import pooled

PLAIN = {"local_views": 0, "queue": 0}


def test_it_is_swapped_prediction_of_two_views():
    method = make("swav", **PLAIN).eval()
    z = [method.projector(pooled(method.encoder(view))) for view in method.views(crops())]
    scores = [torch.nn.functional.normalize(rows) @ method.prototypes.weight.T for rows in z]
    loss = SwAV()
    step = method.step(crops())
    expected = loss(scores, [loss.assign(s) for s in scores])
    torch.testing.assert_close(step.loss, expected)
    assert step.trivial_loss == math.log(12)
    assert step.teacher_probs.shape == (4, 12)


def test_small_views_predict_and_are_not_assigned():
    method = make("swav", **PLAIN, local_size=[8, 8]).eval()
    more = make("swav", queue=0, local_views=2, local_size=[8, 8]).eval()
    more.load_state_dict(method.state_dict())
    assert [view.shape[-1] for view in more.views(crops())] == [16, 16, 8, 8]
    first, second = method.step(crops()), more.step(crops())
    torch.testing.assert_close(first.teacher_probs, second.teacher_probs)
    assert not torch.allclose(first.loss, second.loss)


def test_prototypes_stand_still_at_first_and_stay_on_the_sphere():
    method = make("swav", freeze=0.5)
    optimiser = torch.optim.AdamW(method.parameters(), 0.1)
    start = method.prototypes.weight.detach().clone()
    for progress, still in ((0.0, True), (0.5, False)):
        method.progress = progress
        optimiser.zero_grad()
        method.step(crops()).loss.backward()
        optimiser.step()
        method.after_update(progress)
        weight = method.prototypes.weight.detach()
        torch.testing.assert_close(weight.norm(dim=1), torch.ones(12))
        assert torch.allclose(weight, start, atol=1e-6) == still


def test_the_queue_is_used_after_a_share_of_the_run_and_once_it_is_full():
    method = make("swav", queue=8, queue_from=0.5).eval()
    plain = make("swav", queue=0).eval()
    plain.load_state_dict(method.state_dict(), strict=False)
    for number, progress, used in ((9, 0.4, False), (1, 0.6, False), (2, 0.6, True)):
        method.number, method.progress = number, progress
        method.queue.rows.copy_(torch.randn(8, 16, generator=torch.Generator().manual_seed(3)))
        plain.progress = progress
        same = torch.allclose(method.step(crops()).loss, plain.step(crops()).loss)
        assert same != used
    embedded = torch.cat(method.embed(method.views(crops()))[1][:2], dim=1)
    torch.testing.assert_close(method.queue.rows[4:], embedded)
