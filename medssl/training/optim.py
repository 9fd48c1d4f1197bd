"""The optimiser of a run, and which parameters it treats alike."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from medssl.networks import Encoder
from medssl.training.large_batch import LAMB, LARS
from medssl.training.settings import LoopConfig
from medssl.training.task import Task


def make_optimiser(task: nn.Module, config: LoopConfig) -> Optimizer:
    """The optimiser that the config names, over the groups of :func:`groups`."""
    found = groups(task, config.weight_decay, config.layer_decay)
    betas = (config.momentum, config.beta2)
    if config.optimiser == "adamw":
        return AdamW(found, lr=config.lr, betas=betas, fused=True)
    if config.optimiser == "lamb":
        return LAMB(found, lr=config.lr, betas=betas)
    if config.optimiser == "lars":
        return LARS(found, lr=config.lr, momentum=config.momentum)
    # torch's fused AdamW takes sharded parameters, its fused SGD does not.
    fused = config.strategy != "fsdp"
    return SGD(found, lr=config.lr, momentum=config.momentum, fused=fused)


def groups(task: nn.Module, weight_decay: float, layer_decay: float = 1.0) -> list[dict[str, Any]]:
    """Parameter groups: decayed or not, and by the depth of the encoder's layers.

    Weight decay is on matrices and kernels, not on biases and norms, which LARS and LAMB do not
    adapt either. With a layer decay d below 1, layer i of an encoder of n layers learns at lr
    d^(n - i), and what is behind the encoder at lr (Bao et al. 2022, "BEiT", sec. 3.1). The factors
    that a task states itself, its ``rates``, multiply these.

    Returns:
        groups with params, weight_decay, ``scale`` (factor on lr) and ``adapt``.
    """
    scales = _scales(task, layer_decay)
    found: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for parameter in task.parameters():
        if parameter.requires_grad:
            key = (scales.get(id(parameter), 1.0), parameter.ndim > 1)
            found.setdefault(key, []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": weight_decay if decayed else 0.0,
            "scale": scale,
            "adapt": decayed,
        }
        for (scale, decayed), parameters in found.items()
    ]


def set_rates(optimiser: Optimizer, lr: float, weight_decay: float) -> None:
    """Write the learning rate and the weight decay of a step into the groups."""
    for group in optimiser.param_groups:
        group["lr"] = lr * group["scale"]
        if group["adapt"]:
            group["weight_decay"] = weight_decay


def _scales(task: nn.Module, layer_decay: float) -> dict[int, float]:
    """The factor on lr of the parameters where it is not 1, by the parameter's identity."""
    scales = {}
    if layer_decay != 1.0:
        for module in task.modules():
            if isinstance(module, Encoder):
                for name, parameter in module.named_parameters():
                    scales[id(parameter)] = layer_decay ** (module.layers - module.layer_of(name))
    rates = task.rates if isinstance(task, Task) else {}
    if rates:
        for name, parameter in task.named_parameters():
            scales[id(parameter)] = scales.get(id(parameter), 1.0) * rates.get(name, 1.0)
    return scales
