"""One step of a loss in two gloo processes, beside the same step in one."""

from __future__ import annotations

import socket
from collections.abc import Callable
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

Loss = Callable[[Tensor, Tensor], Tensor]


def compare(losses: dict[str, Loss]) -> dict[str, tuple[Tensor, list[Tensor]]]:
    """By name: value and gradient of one process, and those that each of two processes sees.

    The losses must be importable in the other process: module instances, not lambdas.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    other = mp.spawn(_other, args=(port, losses), nprocs=1, join=False)
    both = _steps(0, port, losses)
    other.join()
    results = {}
    for name, loss in losses.items():
        model, images = _setup()
        value = loss(*model(images).unbind())
        value.backward()
        results[name] = (torch.cat((value.detach()[None], _gradient(model))), both[name])
    return results


def _other(number: int, port: int, losses: dict[str, Loss]) -> None:
    torch.set_num_threads(1)
    _steps(1 + number, port, losses)


def _setup() -> tuple[nn.Linear, Tensor]:
    """A model and the whole batch: two views of six samples."""
    generator = torch.Generator().manual_seed(1)
    model = nn.Linear(5, 4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model, torch.randn(2, 6, 5, generator=generator)


def _gradient(model: nn.Linear) -> Tensor:
    assert model.weight.grad is not None
    assert model.bias.grad is not None
    return torch.cat((model.weight.grad.flatten(), model.bias.grad))


def _steps(rank: int, port: int, losses: dict[str, Loss]) -> dict[str, list[Tensor]]:
    dist.init_process_group(
        "gloo",
        init_method=f"tcp://127.0.0.1:{port}",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=120),
    )
    try:
        return {name: _step(rank, loss) for name, loss in losses.items()}
    finally:
        dist.destroy_process_group()


def _step(rank: int, loss: Loss) -> list[Tensor]:
    """Value and averaged gradient, as each of the two processes has them."""
    model, images = _setup()
    value = loss(*model(images[:, rank * 3 : rank * 3 + 3]).unbind())
    value.backward()
    gradient = _gradient(model)
    dist.all_reduce(gradient)  # what DDP does: the mean over processes
    mine = torch.cat((value.detach()[None], gradient / 2))
    both = [torch.empty_like(mine) for _ in range(2)]
    dist.all_gather(both, mine)
    return both
