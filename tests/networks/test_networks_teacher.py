import torch
from torch import nn

from medssl.networks import Teacher


def student():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def test_it_follows_as_a_moving_average_and_copies_buffers():
    module = student()
    teacher = Teacher(module)
    start = module[0].weight.detach().clone()
    with torch.no_grad():
        module[0].weight.add_(1.0)
        module[1].running_mean.fill_(5.0)
    teacher.update(0.75)
    assert torch.allclose(teacher.module[0].weight, start + 0.25)
    assert torch.equal(teacher.module[1].running_mean, torch.full((2,), 5.0))
    teacher.update(1.0)
    assert torch.allclose(teacher.module[0].weight, start + 0.25)
    teacher.update(0.0)
    assert torch.equal(teacher.module[0].weight, module[0].weight)


def test_no_gradient_reaches_it_and_it_is_saved_without_its_student():
    module = student()
    teacher = Teacher(module)
    assert not any(p.requires_grad for p in teacher.parameters())
    assert not teacher(torch.ones(4, 3, requires_grad=True)).requires_grad
    assert set(teacher.state_dict()) == {f"module.{name}" for name in module.state_dict()}
