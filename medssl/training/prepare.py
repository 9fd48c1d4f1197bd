"""What a run of pretraining trains, made from its configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from medssl import config as configuration
from medssl.bundle import Architecture, EncoderSpec, build
from medssl.errors import MedsslError
from medssl.methods import METHODS, Method, Samples
from medssl.networks import Encoder
from medssl.store import Store
from medssl.training.batch_size import largest_batch
from medssl.training.crop_config import crop_source
from medssl.training.data import CropSource, loader
from medssl.training.folder import started_with
from medssl.training.pretrain_task import PretrainTask

if TYPE_CHECKING:
    from medssl.training.pretrain import PretrainConfig

AUTO = 0  # the batch size that is still to be found


@dataclass
class Prepared:
    """What a run trains, on what, and the architecture of its encoder."""

    task: PretrainTask
    source: CropSource
    encoder: EncoderSpec


def prepare(store: Store, config: PretrainConfig, volume_ids: Sequence[str], out: Path) -> Prepared:
    """What a resolved configuration trains, as at the start of its run.

    Raises:
        MedsslError: ENCODER_UNKNOWN, CONFIG_INVALID.
    """
    method, encoder = _method(store, config, volume_ids)
    task = PretrainTask(method, config.watch.queue)
    return Prepared(task, crop_source(store, volume_ids, config, config.seed, out), encoder)


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
    prepared = prepare(store, smallest, volume_ids, out)
    sample = next(iter(loader(prepared.source, 2, 0, 1, 0)))
    count = largest_batch(prepared.task, sample, smallest, len(volume_ids))
    return config.model_copy(update={"batch_size": count})


def _method(
    store: Store, config: PretrainConfig, volume_ids: Sequence[str]
) -> tuple[Method, EncoderSpec]:
    spec = EncoderSpec(
        name=config.encoder,
        dims=config.dims or 3,
        in_channels=int(store[volume_ids[0]].row["channels"]),
        options=config.encoder_options,
    )
    torch.manual_seed(config.seed)
    kind = METHODS[config.method]
    options = configuration.load(kind.Config, values=config.options)
    encoder = build(Architecture(encoder=spec)).get_submodule("encoder")
    assert isinstance(encoder, Encoder)
    samples = Samples(tuple(config.patch_size or ()), len(volume_ids), config.plane)
    try:
        return kind(options, encoder, samples), spec
    except ValueError as error:
        raise MedsslError("CONFIG_INVALID", str(error), where="patch_size or options") from None
