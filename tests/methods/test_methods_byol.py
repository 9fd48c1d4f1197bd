from __future__ import annotations

import torch
import torch.nn.functional as F
from method_cases import crops, make

from medssl.networks import pooled


def test_it_is_the_negative_cosine_to_the_teacher_of_the_other_view():
    method = make("byol").eval()
    with torch.no_grad():
        for parameter in method.teacher.parameters():
            parameter.mul_(1.1)  # it is no copy any more
    views = method.views(crops())
    student = [method.predictor(method.projector(pooled(method.encoder(v)))) for v in views]
    taught = [method.teacher(view)[1] for view in views]
    expected = -(
        F.cosine_similarity(student[0], taught[1]) + F.cosine_similarity(student[1], taught[0])
    ).mean()
    step = method.step(crops())
    torch.testing.assert_close(step.loss, expected / 2)
    torch.testing.assert_close(step.positives[1], taught[1])


def test_the_teacher_follows_encoder_and_projector_and_takes_no_gradient():
    method = make("byol", momentum=0.5)
    method.step(crops()).loss.backward()
    assert all(p.grad is None for p in method.teacher.parameters())
    assert len(list(method.teacher.parameters())) == len(
        [*method.encoder.parameters(), *method.projector.parameters()]
    )
    before = method.teacher.module.projector[0].weight.clone()
    with torch.no_grad():
        method.projector[0].weight.add_(1.0)
    method.after_update(0.0)
    torch.testing.assert_close(method.teacher.module.projector[0].weight, before + 0.5)
    method.after_update(1.0)  # momentum 1 at the end
    torch.testing.assert_close(method.teacher.module.projector[0].weight, before + 0.5)
