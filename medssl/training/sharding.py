"""Sharded training: each process holds its part of the weights, gradients and optimiser state.

A sharded parameter is a tensor cut along its first axis, one piece a process (torch's
``fully_shard``, after Zhao et al. 2023, "PyTorch FSDP"). Before a block computes, its pieces are
gathered, and let go again behind it. Functions here do nothing to what is not sharded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer

from medssl.networks.conv import ConvBlock
from medssl.networks.mednext import MedNeXtBlock
from medssl.networks.resnet import ResNetBlock
from medssl.networks.swin import SwinBlock
from medssl.networks.vit import TransformerBlock

_BLOCKS = (ConvBlock, MedNeXtBlock, ResNetBlock, SwinBlock, TransformerBlock)


def units(task: nn.Module) -> list[nn.Module]:
    """What is gathered at once: blocks, which are always called as modules. The rest is gathered
    for the whole step."""
    return [m for m in task.modules() if isinstance(m, _BLOCKS)]


def shard(task: nn.Module, mesh: Any) -> nn.Module:
    """Shard a task in place, over the processes of a mesh with a ``data_parallel`` axis."""
    from torch.distributed.fsdp import fully_shard

    over = mesh["data_parallel"]
    for module in (*units(task), task):
        fully_shard(module, mesh=over)
    return task


def whole(tensor: Tensor) -> Tensor:
    """The whole of a sharded tensor; every process must ask for it."""
    gather = getattr(tensor, "full_tensor", None)
    return gather() if gather is not None else tensor


def local(tensor: Tensor) -> Tensor:
    """This process's part, sharing its memory."""
    part = getattr(tensor, "to_local", None)
    return part() if part is not None else tensor


def sharded_like(tensor: Tensor, other: Any) -> Tensor:
    """This process's part of ``tensor``, which all hold whole, cut as the tensor ``other`` is."""
    if not hasattr(other, "to_local") or tensor.shape != other.shape:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor, other.device_mesh, other.placements, src_data_rank=None)


def norms(parts: Sequence[Tensor], like: Tensor) -> Tensor:
    """Euclidean norms of whole tensors, (tensors,), from this process's parts of them.

    Args:
        parts: as :func:`local` gives them.
        like: a parameter that is sharded as they are, or is not.
    """
    found = torch.stack(torch._foreach_norm(list(parts)))
    if not hasattr(like, "to_local"):
        return found
    total = found.square()
    dist.all_reduce(total)
    return total.sqrt()


@contextmanager
def usable(task: nn.Module) -> Iterator[None]:
    """While open, modules of ``task`` can be called by themselves, not only the task.

    Every process must open it and call the same modules.
    """
    module: Any = task
    if not hasattr(module, "unshard"):
        yield
        return
    module.unshard()
    try:
        yield
    finally:
        module.reshard()


def unshard(task: nn.Module, optimiser: Optimizer) -> None:
    """Make a task plain again, on the CPU; the optimiser's state is dropped.

    Every process must call it. Afterwards nothing of the task needs the other processes.
    """
    optimiser.state.clear()
    optimiser.param_groups.clear()
    made: dict[nn.Parameter, nn.Parameter] = {}
    for module in task.modules():
        own = module.named_parameters(recurse=False, remove_duplicate=False)
        for name, parameter in list(own):
            if parameter not in made:
                full = whole(parameter.detach()).cpu()
                made[parameter] = nn.Parameter(full, parameter.requires_grad)
            setattr(module, name, made[parameter])
        _take_hooks_off(module)


def _take_hooks_off(module: nn.Module) -> None:
    """Undo what ``fully_shard`` did to a module beside its parameters; torch has no inverse."""
    from torch.distributed.fsdp import FSDPModule

    if isinstance(module, FSDPModule):
        state = module._get_fsdp_state()
        state._pre_forward_hook_handle.remove()
        state._post_forward_hook_handle.remove()
        module.__class__ = type(module).__mro__[2]
