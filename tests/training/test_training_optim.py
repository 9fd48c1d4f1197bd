import pytest
import torch
from torch import nn

from medssl.networks import Segmenter, UNetEncoder, ViT
from medssl.training.optim import groups, make_optimiser, set_rates
from medssl.training.settings import LoopConfig
from medssl.training.task import Task


def test_only_kernels_decay_and_frozen_parameters_are_left_out():
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.GroupNorm(1, 2), nn.Linear(2, 2))
    module[2].weight.requires_grad_(False)
    found = groups(module, 0.5)
    assert [group["weight_decay"] for group in found] == [0.5, 0.0]
    assert [tuple(p.shape) for p in found[0]["params"]] == [(2, 1, 3, 3)]
    assert len(found[1]["params"]) == 4


def test_a_layer_learns_slower_the_nearer_it_is_to_the_image():
    torch.manual_seed(0)
    model = Segmenter(UNetEncoder(2, 1, widths=(4, 8, 16)), 2)
    found = groups(model, 0.0, layer_decay=0.5)
    scale = {id(p): group["scale"] for group in found for p in group["params"]}
    assert len(scale) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        expected = 1.0
        if name.startswith("encoder.levels."):
            expected = 0.5 ** (3 - int(name.split(".")[2]))
        assert scale[id(parameter)] == expected, name


def test_the_rates_that_a_task_states_multiply_those_of_the_layers():
    task = Task()
    task.encoder = UNetEncoder(2, 1, widths=(4, 8))
    task.head = nn.Linear(2, 2)
    task.rates = {"encoder.levels.1.0.conv1.weight": 0.1, "head.bias": 0.3}
    found = groups(task, 0.0, layer_decay=0.5)
    scale = {id(p): group["scale"] for group in found for p in group["params"]}
    names = dict(task.named_parameters())
    assert scale[id(names["encoder.levels.1.0.conv1.weight"])] == pytest.approx(0.05)
    assert scale[id(names["encoder.levels.1.0.conv2.weight"])] == 0.5
    assert scale[id(names["head.bias"])] == 0.3
    assert scale[id(names["head.weight"])] == 1.0


@pytest.mark.parametrize("name", ["adamw", "sgd", "lars", "lamb"])
def test_every_optimiser_lowers_a_loss_at_the_rate_set(name):
    torch.manual_seed(0)
    module = nn.Linear(4, 4)
    optimiser = make_optimiser(module, LoopConfig(optimiser=name, lr=99.0, weight_decay=0.0))
    set_rates(optimiser, 0.0, 0.0)

    def loss():
        optimiser.zero_grad()
        value = module(torch.eye(4)).sub(1).square().mean()
        value.backward()
        return float(value.detach())

    first = loss()
    optimiser.step()
    assert loss() == first
    set_rates(optimiser, 1.0 if name == "lars" else 0.02, 0.0)
    for _ in range(20):
        loss()
        optimiser.step()
    assert loss() < first


def test_rates_reach_the_groups():
    module = nn.Sequential(ViT(2, 1, 4, embed_dim=24, depth=1, heads=2), nn.Linear(2, 2))
    optimiser = make_optimiser(module, LoopConfig(layer_decay=0.5, weight_decay=0.1))
    set_rates(optimiser, 0.4, 0.3)
    rates = {(group["lr"], group["weight_decay"]) for group in optimiser.param_groups}
    assert rates == {(lr, decay) for lr in (0.1, 0.2, 0.4) for decay in (0.0, 0.3)}
