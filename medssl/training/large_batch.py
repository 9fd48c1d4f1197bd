"""Optimisers for large batches: each parameter's step follows the size of the parameter."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from medssl.training.sharding import local, norms


class LARS(Optimizer):
    """Layer-wise adaptive rate scaling (You et al. 2017, arXiv:1708.03888, alg. 1).

    With the gradient g and the weights w of one parameter:
    rate = trust |w| / (|g| + weight_decay |w|), v = momentum v + lr rate (g + weight_decay w),
    w = w - v. Where |w| or |g| is 0, and in groups with ``adapt`` False, rate is 1.

    Args:
        params: parameters or groups; a group may have ``adapt``.
        lr: learning rate.
        momentum: of v.
        weight_decay: as above.
        trust: as above.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 0.001,
    ) -> None:
        defaults = {
            "lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust,
            "adapt": True,
        }  # fmt: skip
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step."""
        loss = _call(closure)
        for group in self.param_groups:
            found, weights, gradients = _with_gradients(group)
            if not found:
                continue
            decay, lr = group["weight_decay"], group["lr"]
            velocity = [_state(self, p, "momentum_buffer") for p in found]
            changes = list(torch._foreach_add(gradients, weights, alpha=decay))
            if group["adapt"]:
                size, slope = norms(weights, found[0]), norms(gradients, found[0])
                rate = group["trust"] * size / (slope + decay * size)
                rate = torch.where((size > 0) & (slope > 0), rate, 1.0)
                torch._foreach_mul_(changes, list(rate.unbind()))
            torch._foreach_mul_(velocity, group["momentum"])
            torch._foreach_add_(velocity, changes, alpha=lr)
            torch._foreach_sub_(weights, velocity)
        return loss


class LAMB(Optimizer):
    """Layer-wise adaptive moments (You et al. 2020, arXiv:1904.00962, alg. 2), phi the identity.

    u = m' / (sqrt(v') + eps) + weight_decay w with Adam's bias-corrected moments m' and v';
    w = w - lr |w| / |u| u. Where |w| or |u| is 0, and in groups with ``adapt`` False, the ratio
    is 1.

    Args:
        params: parameters or groups; a group may have ``adapt``.
        lr: learning rate.
        betas: of the moments.
        eps: as above.
        weight_decay: as above.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "adapt": True,
        }  # fmt: skip
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step."""
        loss = _call(closure)
        for group in self.param_groups:
            found, weights, gradients = _with_gradients(group)
            if not found:
                continue
            beta1, beta2 = group["betas"]
            first = [_state(self, p, "exp_avg") for p in found]
            second = [_state(self, p, "exp_avg_sq") for p in found]
            # The count lies on the CPU: reading it does not wait for the device.
            count = self.state[found[0]].setdefault("step", torch.zeros((), dtype=torch.float64))
            count += 1
            steps = float(count)
            torch._foreach_lerp_(first, gradients, 1 - beta1)
            torch._foreach_mul_(second, beta2)
            torch._foreach_addcmul_(second, gradients, gradients, value=1 - beta2)
            spread = torch._foreach_sqrt(second)
            torch._foreach_div_(spread, (1 - beta2**steps) ** 0.5)
            torch._foreach_add_(spread, group["eps"])
            changes = list(torch._foreach_div(first, spread))
            torch._foreach_div_(changes, 1 - beta1**steps)
            torch._foreach_add_(changes, weights, alpha=group["weight_decay"])
            if group["adapt"]:
                size, length = norms(weights, found[0]), norms(changes, found[0])
                ratio = torch.where((size > 0) & (length > 0), size / length, 1.0)
                torch._foreach_mul_(changes, list(ratio.unbind()))
            torch._foreach_add_(weights, changes, alpha=-group["lr"])
        return loss


def _call(closure: Callable[[], float] | None) -> float | None:
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


def _with_gradients(group: dict[str, Any]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Parameters that have a gradient; and this process's part of their values and gradients."""
    found = [p for p in group["params"] if p.grad is not None]
    return found, [local(p) for p in found], [local(p.grad) for p in found]


def _state(optimiser: Optimizer, parameter: Tensor, name: str) -> Tensor:
    """This process's part of a tensor like the parameter, zeros at first."""
    state = optimiser.state[parameter]
    if name not in state:
        state[name] = torch.zeros_like(parameter)
    return local(state[name])
