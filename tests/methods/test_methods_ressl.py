from __future__ import annotations

import torch
import torch.nn.functional as F
from method_cases import crops, make

from medssl.losses import Relation
from medssl.networks import pooled


def test_the_student_relates_its_strong_view_as_the_teacher_its_weak_one():
    method = make("ressl", temperature=0.2, teacher_temperature=0.1).eval()
    with torch.no_grad():
        for weight in method.teacher.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    kept = method.queue.rows.clone()
    strong, weak = method.views(crops())
    student = method.projector(pooled(method.encoder(strong)))
    _, teacher = method.teacher(weak)
    step, loss = method.step(crops()), Relation(0.2, 0.1)
    target = loss.relations(teacher, kept)
    torch.testing.assert_close(step.loss, loss(student, target, kept))
    torch.testing.assert_close(step.teacher_probs, target)
    torch.testing.assert_close(method.queue.rows, torch.cat((kept[4:], F.normalize(teacher))))


def test_the_teachers_view_keeps_the_intensities():
    batch = crops()
    batch.image.sign_()
    strong, weak = make("ressl").views(batch)
    assert weak.abs().max() < 1 + 1e-5
    assert strong.abs().max() > 1.05


def test_the_teacher_follows():
    method = make("ressl", momentum=0.5)
    weight, before = next(method.encoder.parameters()), next(method.teacher.parameters()).clone()
    with torch.no_grad():
        weight.add_(1.0)
    method.after_update(0.0)
    torch.testing.assert_close(next(method.teacher.parameters()), before + 0.5)
