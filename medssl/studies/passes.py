"""How often a method's step goes through an encoder: what methods are made equal by.

Steps are no fair measure of what a method costs: one with two views and a teacher does four times
what one with a single view does. So a comparison gives every method the same number of encoder
passes, a pass being one view of one sample through a student's or a teacher's encoder. A small
(local) view counts as one, and so does an image of which only visible patches are encoded.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medssl.methods import Crops, Method
from medssl.networks import Encoder, SliceEncoder
from medssl.store import Store
from medssl.training.data import loader
from medssl.training.prepare import prepare
from medssl.training.pretrain import PretrainConfig, resolve
from medssl.training.pretrain_task import crops_of

_CROPS = 8  # enough for batch norm, few enough to cost nothing


@dataclass(frozen=True)
class Cost:
    """What a sample costs in training: encoder passes, and seconds on this CPU with nothing else
    on it."""

    passes: float
    seconds: float


def count_passes(method: Method, crops: Crops) -> float:
    """Samples times views that one step sends through the encoders of a method, teachers too.

    The first layer of each encoder is hooked, as it sees every image however the encoder is
    called. An encoder of slices sees each slice of a volume; such a slice counts as its share of
    the crop. The step is computed, and what it changes of the method's state stays changed.
    """
    counts = []
    hooks = []
    for encoder in _outermost(method):
        rows: Counter[str] = Counter()
        counts.append(rows)
        for name, layer in encoder.named_modules():
            if not any(layer.children()):
                hook = _counter(rows, name)
                hooks.append(layer.register_forward_pre_hook(hook, with_kwargs=True))
    method.step(crops)
    for handle in hooks:
        handle.remove()
    # a Counter remembers the order in which its keys came
    seen = [next(iter(rows.values()), 0) for rows in counts]
    parts = [_slices(encoder, crops) for encoder in _outermost(method)]
    return sum(rows / part for rows, part in zip(seen, parts, strict=True))


def steps_for(passes: int, cost: Cost, batch_size: int) -> int:
    """The steps that come closest to this many encoder passes, at least one."""
    return max(1, round(passes / (cost.passes * batch_size)))


def cost_of(store: Store, config: PretrainConfig, out: Path) -> Cost:
    """What a sample of this pretraining costs, measured on a few crops.

    Raises:
        MedsslError: CONFIG_INVALID and others of :func:`medssl.training.prepare.prepare`.
        ValueError: the method's step refuses the crops.
    """
    config = config.model_copy(update={"cache": "off", "batch_size": _CROPS})
    config, volume_ids = resolve(store, config)
    prepared = prepare(store, config, volume_ids, out)
    method = prepared.task.method.train()
    crops = crops_of(next(iter(loader(prepared.source, _CROPS, 0, 1, 0))))
    passes = count_passes(method, crops)
    for _ in range(2):  # the first is slower than all that follow
        started = time.process_time()
        method.step(crops).loss.backward()  # type: ignore[no-untyped-call]
    seconds = (time.process_time() - started) / torch.get_num_threads()
    return Cost(passes / len(crops), seconds / len(crops))


def _outermost(method: Method) -> list[Encoder]:
    """The encoders that are no part of another encoder, each once."""
    encoders = [m for m in method.modules() if isinstance(m, Encoder)]
    inner = {id(part) for e in encoders for part in e.modules() if part is not e}
    return [e for e in encoders if id(e) not in inner]


def _slices(encoder: Encoder, crops: Crops) -> int:
    """How many images an encoder makes of a crop."""
    if isinstance(encoder, SliceEncoder) and crops.image.ndim == 5:
        return int(crops.image.shape[2 + encoder.plane[0]])
    return 1


def _counter(rows: Counter[str], name: str) -> Any:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        first = next(v for v in (*args, *kwargs.values()) if isinstance(v, Tensor))
        rows[name] += len(first)

    return hook
