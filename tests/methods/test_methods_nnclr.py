from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from method_cases import crops, make

from medssl.losses import InfoNCE


def test_neighbours_stand_in_for_each_view():
    method = make("nnclr", temperature=0.5)
    kept = method.queue.rows.clone()
    _, z = method.embed(method.views(crops()))
    p = method.predictor(torch.cat(z)).chunk(2)
    near = []
    for rows in z:
        nearest = [int(torch.cosine_similarity(row[None], kept).argmax()) for row in rows]
        near.append(kept[nearest])
    step = method.step(crops())
    loss = InfoNCE(0.5)
    torch.testing.assert_close(step.loss, (loss(near[0], p[1]) + loss(near[1], p[0])) / 2)
    torch.testing.assert_close(step.positives[0], p[1])
    torch.testing.assert_close(step.positives[1], near[0])
    # Then the first view's embeddings are kept, on the sphere.
    torch.testing.assert_close(method.queue.rows, torch.cat((kept[4:], F.normalize(z[0]))))
    assert not method.queue.rows.requires_grad


def test_the_trivial_loss_is_that_of_one_point_for_all():
    method = make("nnclr")
    value = float(method._loss(torch.ones(4, 8), torch.ones(4, 8)))
    assert value == pytest.approx(method.step(crops()).trivial_loss)
