from __future__ import annotations

import math

import pytest
import torch
from method_cases import crops, make


def test_one_pass_gives_both_losses_and_they_are_weighed():
    passes = []
    method = make("sit", reconstruction=3.0)
    method.encoder.register_forward_hook(lambda *_: passes.append(1))
    step = method.step(crops())
    assert len(passes) == 1
    total = step.logs["contrast"] + 3.0 * step.logs["reconstruction"]
    torch.testing.assert_close(step.loss, total)


def test_the_student_sees_spoilt_views_and_the_teacher_whole_ones():
    method, batch = make("sit"), crops()
    seen = {}
    method.encoder.register_forward_hook(lambda _, args, out: seen.update(student=args[0]))
    method.teacher.module.register_forward_hook(lambda _, args, out: seen.update(teacher=args[0]))
    method.step(batch)
    views = torch.cat(method.views(batch))
    assert torch.equal(seen["teacher"], views)
    assert 0.2 < (seen["student"] != views).float().mean() < 0.75


def test_the_reconstruction_is_of_what_was_replaced_in_both_views():
    method, batch = make("sit").eval(), crops()
    views = method.views(batch)
    given, masks = method._spoilt(views, batch)
    assert not torch.equal(masks[0], masks[1])
    means = []
    for view, spoilt, mask in zip(views, given, masks, strict=True):
        error = (method.head(method.encoder(spoilt)) - view).abs()
        means += [error[b][mask[b]].mean() for b in range(4)]
    found = method.step(batch).logs["reconstruction"]
    torch.testing.assert_close(found, torch.stack(means).mean())


def test_without_reconstruction_the_trivial_loss_is_known():
    trivial = make("sit", reconstruction=0.0).step(crops()).trivial_loss
    assert trivial == pytest.approx(2 * 0.2 * math.log(4))
    assert make("sit").step(crops()).trivial_loss is None


def test_the_teacher_follows():
    method = make("sit", momentum=0.0)
    with torch.no_grad():
        method.projector[0].weight.add_(1)
    method.after_update(0.0)
    assert torch.equal(method.teacher.module.projector[0].weight, method.projector[0].weight)
