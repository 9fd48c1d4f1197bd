"""What a run of pretraining trains, made from its configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from medssl import config as configuration
from medssl.bundle import Architecture, EncoderSpec, build
from medssl.errors import MedsslError
from medssl.methods import METHODS, Method, Samples
from medssl.networks import Encoder
from medssl.store import Store
from medssl.training.batch_size import largest_batch
from medssl.training.crop_config import crop_source
from medssl.training.data import Batch, loader
from medssl.training.folder import started_with
from medssl.training.mixed import by_dims, mixed_source
from medssl.training.pretrain_task import PretrainTask
from medssl.training.worker import Source

if TYPE_CHECKING:
    from medssl.training.pretrain import PretrainConfig

AUTO = 0  # the batch size that is still to be found


@dataclass
class Prepared:
    """What a run trains, on what, and the architecture of its encoder."""

    task: PretrainTask
    source: Source
    encoder: EncoderSpec


def prepare(store: Store, config: PretrainConfig, volume_ids: Sequence[str], out: Path) -> Prepared:
    """What a resolved configuration trains, as at the start of its run.

    Raises:
        MedsslError: ENCODER_UNKNOWN, CONFIG_INVALID.
    """
    method, encoder = _method(store, config, volume_ids)
    task = PretrainTask(method, config.watch.queue)
    if config.dims == "both":
        return Prepared(task, mixed_source(store, volume_ids, config, out), encoder)
    return Prepared(task, crop_source(store, volume_ids, config, config.seed, out), encoder)


def first_crops(prepared: Prepared, config: PretrainConfig, most: int = 4) -> dict[str, Batch]:
    """A few of a run's first crops; "-2d" has those of 2D where they come in turn with 3D ones."""
    if config.dims != "both":
        count = min(most, config.batch_size)
        return {"": next(iter(loader(prepared.source, count, 0, 1, 0)))}
    found = {}
    for step, name in enumerate(("", "-2d")):
        batch = next(iter(loader(prepared.source, config.batch_size, step, step + 1, 0)))
        found[name] = cast(Batch, {key: value[:most] for key, value in batch.items()})
    return found


def sized(
    store: Store, config: PretrainConfig, volume_ids: Sequence[str], out: Path, resume: bool = False
) -> PretrainConfig:
    """The configuration with a number where it says `batch_size=auto`.

    Args:
        store, config, volume_ids: as :func:`resolve` gives them.
        out: the run's folder.
        resume: the run there goes on, with the number it was started with.

    Raises:
        MedsslError: OUT_OF_MEMORY, CONFIG_INVALID.
    """
    if config.batch_size != AUTO:
        return config
    if resume:
        return config.model_copy(update={"batch_size": started_with(out)["config"]["batch_size"]})
    smallest = config.model_copy(update={"batch_size": 2 * config.accumulate, "cache": "off"})
    counts = []
    for kind in first_crops(prepare(store, smallest, volume_ids, out), smallest, most=2):
        prepared = prepare(store, smallest, volume_ids, out)  # what is tried is spent
        sample = cast("dict[str, Tensor]", first_crops(prepared, smallest, most=2)[kind])
        counts.append(largest_batch(prepared.task, sample, smallest, len(volume_ids)))
    return config.model_copy(update={"batch_size": min(counts)})


def _method(
    store: Store, config: PretrainConfig, volume_ids: Sequence[str]
) -> tuple[Method, EncoderSpec]:
    kind = METHODS[config.method]
    dims, flat = config.dims or 3, config.flat
    pools = by_dims(store, volume_ids, flat) if dims == "both" else (volume_ids, volume_ids)
    channels = [int(store[ids[0]].row["channels"]) for ids in pools]
    spec = kind.encoder_for(
        EncoderSpec(
            name=config.encoder,
            dims=3 if dims == "both" else dims,
            in_channels=channels[0],
            options=config.encoder_options,
        )
    )
    torch.manual_seed(config.seed)
    options = configuration.load(kind.Config, values=config.options)
    encoder = build(Architecture(encoder=spec)).get_submodule("encoder")
    assert isinstance(encoder, Encoder)
    samples = Samples(tuple(config.patch_size or ()), len(volume_ids), plane=config.plane)
    if dims == "both" and flat is not None:
        size = tuple(flat.patch_size or ())
        samples = replace(samples, flat_size=size, flat_channels=channels[1])
    try:
        return kind(options, encoder, samples), spec
    except ValueError as error:
        raise MedsslError("CONFIG_INVALID", str(error), where="patch_size or options") from None
