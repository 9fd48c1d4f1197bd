"""Where a run computes: its devices and processes, and which process may write.

One process, several that it starts itself (``devices=4``), or those that torchrun or Slurm started.
"""

from __future__ import annotations

import inspect
import logging
import os
import warnings
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from medssl.errors import MedsslError
from medssl.networks.norms import BatchNorm
from medssl.training.optim import make_optimiser
from medssl.training.settings import LoopConfig
from medssl.training.sharding import shard

_PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def is_leader() -> bool:
    """Whether this process writes files and reports; known before the processes have met."""
    if _by_torchrun():
        return os.environ["RANK"] == "0"
    if _by_slurm():
        return os.environ["SLURM_PROCID"] == "0"
    return os.environ.get("LOCAL_RANK", "0") == "0"


def leave_to_leader() -> None:
    """End this process, with exit code 0, unless it is the leader: its training is done."""
    if not is_leader():
        raise SystemExit(0)


def layout(config: LoopConfig) -> tuple[int, int]:
    """(processes a node, nodes) of the run.

    Raises:
        MedsslError: CONFIG_INVALID where the config names others than were started, or several
            nodes without torchrun or Slurm.
    """
    started = None
    if _by_torchrun():
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        started = (local, int(os.environ["WORLD_SIZE"]) // local)
    elif _by_slurm():
        nodes = int(os.environ.get("SLURM_NNODES", "1"))
        started = (int(os.environ["SLURM_NTASKS"]) // nodes, nodes)
    if started is None:
        if (config.nodes or 1) > 1:
            raise MedsslError(
                "CONFIG_INVALID",
                "Several nodes need a process on each",
                where="nodes",
                fix="Start the command by torchrun, or by srun with one task a device.",
            )
        return config.devices or 1, 1
    for key, given, found in zip(
        ("devices", "nodes"), (config.devices, config.nodes), started, strict=True
    ):
        if given is not None and given != found:
            raise MedsslError(
                "CONFIG_INVALID",
                f"{key}={given}, but torchrun or Slurm started {found}",
                where=key,
                fix=f"Leave {key} out; it is found.",
            )
    return started


def check(config: LoopConfig, task: nn.Module) -> None:
    """Refuse what this machine or a share of the batch cannot do, before anything is written.

    Raises:
        MedsslError: DEVICE_MISSING, CONFIG_INVALID.
    """
    devices, nodes = layout(config)
    _device(config, devices)
    check_shares(config, task, devices * nodes)


def _device(config: LoopConfig, devices: int) -> str:
    if config.precision == "fp16" and config.strategy == "fsdp":
        raise MedsslError(
            "CONFIG_INVALID",
            "fsdp does not scale losses, which fp16 needs",
            where="precision",
            fix="Use bf16 or fp32.",
        )
    device = config.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    there = torch.cuda.device_count() if device == "cuda" else devices
    if there < devices:
        raise MedsslError(
            "DEVICE_MISSING",
            f"{devices} CUDA device(s) are asked for, {there} are there",
            where="device",
            fix="Use device=cpu or fewer devices.",
        )
    if config.precision == "fp16" and device == "cpu":
        raise MedsslError(
            "CONFIG_INVALID", "fp16 needs a GPU", where="precision", fix="Use bf16 or fp32."
        )
    return device


def open_fabric(config: LoopConfig) -> Any:
    """The Lightning Fabric of the run; where there are several processes, they have met.

    Raises:
        MedsslError: DEVICE_MISSING, CONFIG_INVALID.
    """
    from lightning.fabric import Fabric

    devices, nodes = layout(config)
    device = _device(config, devices)
    fabric = Fabric(
        accelerator=device,
        devices=devices,
        num_nodes=nodes,
        precision=_PRECISIONS[config.precision],
        strategy=_strategy(config, devices * nodes),
        plugins=[_environment()],
    )
    for name in ("lightning.fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.WARNING)
    fabric.launch()
    return fabric


def set_up(fabric: Any, task: nn.Module, config: LoopConfig) -> tuple[Any, Optimizer, Any]:
    """(the task as it is called, its optimiser, the optimiser as it is stepped).

    Sharding replaces the parameters, so there the optimiser is made after it.
    """
    if config.strategy == "fsdp":
        model = fabric.setup_module(task)
        optimiser = make_optimiser(task, config)
        return model, optimiser, fabric.setup_optimizers(optimiser)
    optimiser = make_optimiser(task, config)
    model, stepper = fabric.setup(task, optimiser)
    return model, optimiser, stepper


def check_shares(config: LoopConfig, task: nn.Module, world: int) -> None:
    """Refuse what several processes or micro-steps cannot share evenly.

    Raises:
        MedsslError: CONFIG_INVALID.
    """
    parts = world * config.accumulate
    if config.batch_size % parts:
        raise MedsslError(
            "CONFIG_INVALID",
            f"{config.batch_size} samples a step cannot be shared by {world} process(es) with "
            f"{config.accumulate} micro-step(s) each",
            where="batch_size",
            fix=f"Use a multiple of {parts}.",
        )
    if world == 1:
        return
    for name, module in task.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and not isinstance(
            module, BatchNorm
        ):
            raise MedsslError(
                "CONFIG_INVALID",
                "A batch norm would take its statistics from one process's share",
                where=name,
                fix="Use medssl.networks.BatchNorm, or one process.",
            )


def _strategy(config: LoopConfig, world: int) -> Any:
    from lightning.fabric.strategies import DDPStrategy, ModelParallelStrategy

    if config.strategy == "fsdp":
        return ModelParallelStrategy(shard, data_parallel_size=world, tensor_parallel_size=1)
    if world == 1 and config.strategy == "auto":
        return "auto"
    # Buffers need no broadcast: batch norm and the losses gather over all processes.
    known = inspect.signature(nn.parallel.DistributedDataParallel).parameters
    name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    # Convolutions give channels-last gradients; copying those costs less than plain convolutions.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view")
    return DDPStrategy(gradient_as_bucket_view=True, **{name: False})


def _environment() -> Any:
    from lightning.fabric.plugins.environments import (
        LightningEnvironment,
        SLURMEnvironment,
        TorchElasticEnvironment,
    )

    if _by_torchrun():
        return TorchElasticEnvironment()
    return SLURMEnvironment(auto_requeue=False) if _by_slurm() else LightningEnvironment()


def _by_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ


def _by_slurm() -> bool:
    """Whether srun started this task beside others; one task alone is like no Slurm at all."""
    tasks = int(os.environ.get("SLURM_NTASKS", "1"))
    return tasks > 1 and "SLURM_PROCID" in os.environ and "SLURM_STEP_ID" in os.environ
