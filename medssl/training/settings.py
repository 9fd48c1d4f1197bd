"""What every training run is told: its length, optimiser, devices and how often it reports."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from medssl.config import StrictModel

# Keys that a resumed run may change: where and how it runs, not what it computes.
FREE_KEYS = frozenset({"device", "devices", "nodes", "strategy", "workers", "compile", "watch"})


class LoopConfig(StrictModel):
    """What every training run has: its length, optimiser, device and how often it reports."""

    steps: int = Field(1000, ge=1)
    batch_size: int = Field(
        4, ge=1, description="samples of one step, over all processes and micro-steps"
    )
    accumulate: int = Field(1, ge=1, description="micro-steps whose gradients make one step")
    optimiser: Literal["adamw", "sgd", "lars", "lamb"] = "adamw"
    lr: float = Field(1e-3, gt=0)
    lr_end: float | None = Field(
        None, ge=0, lt=1, description="last learning rate over lr; 0, of wsd 0.01"
    )
    schedule: Literal["cosine", "constant", "polynomial", "wsd"] = Field(
        "cosine", description="of lr; wsd: hold a constant one, anneal in the last steps only"
    )
    warmup: float = Field(0.05, ge=0, lt=1, description="fraction of the steps")
    power: float = Field(1.0, gt=0, description="of schedule=polynomial")
    wsd_cooldown: float = Field(
        0.2, ge=0, lt=1, description="fraction of the steps in which wsd comes down to wsd_hold"
    )
    wsd_hold: float = Field(0.5, gt=0, le=1, description="constant learning rate over lr")
    wsd_decay: float = Field(0.1, gt=0, lt=1, description="fraction of the steps that anneal")
    weight_decay: float = Field(0.05, ge=0)
    weight_decay_end: float | None = Field(
        None, ge=0, description="weight decay at the end, by half a cosine; None keeps it"
    )
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="factor on lr from each layer of the encoder to the one below"
    )
    momentum: float = Field(
        0.9, ge=0, lt=1, description="of sgd and lars; first beta of adamw and lamb"
    )
    beta2: float = Field(0.99, gt=0, lt=1)
    clip: float = Field(1.0, gt=0, description="largest gradient norm")
    seed: int = Field(0, ge=0)
    workers: int = Field(0, ge=0)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int | None = Field(
        None, ge=1, description="processes a node; None: one, or what torchrun or Slurm started"
    )
    nodes: int | None = Field(
        None, ge=1, description="machines; None: one, or what torchrun or Slurm started"
    )
    strategy: Literal["auto", "ddp", "fsdp"] = Field(
        "auto",
        description="ddp: every device holds the model; fsdp: each a part of it, for models too"
        " large for one; auto: ddp where there are several",
    )
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    compile: bool = Field(False, description="torch.compile")
    log_every: int = Field(10, ge=1)
    checkpoint_every: int = Field(500, ge=1)

    @model_validator(mode="after")
    def _fractions(self) -> LoopConfig:
        if self.schedule == "wsd":
            if self.warmup + self.wsd_cooldown + self.wsd_decay > 1:
                raise ValueError("warmup, wsd_cooldown and wsd_decay are together more than 1")
            if self.lr_end == 0:
                raise ValueError("wsd anneals by a factor each step, so lr_end must be above 0")
        return self
