"""A small case of every method, for the tests that all methods share.

`tests/method_cases/NAME.py` has `CASE`; a method without one fails the tests.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from small_encoders import SMALL

from medssl.bundle import EncoderSpec
from medssl.methods import Crops, Method, Samples, method_class
from medssl.networks import build_encoder
from medssl.views import Draw, sample_key

ENCODERS: dict[str, dict[str, Any]] = {
    "unet": {"widths": [4, 8, 8]},
    "vit": {"patch_size": 4, "embed_dim": 24, "depth": 1, "heads": 2},
}


@dataclass(frozen=True)
class Broken:
    """One way to break a method on purpose, so that the run's watch goes off.

    Attributes:
        options: of the method, over those of the case.
        change: done to the method after it was made.
        values: of the loop, over those of the test.
    """

    options: dict[str, Any] = field(default_factory=dict)
    change: Callable[[Method], None] | None = None
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """A small form of a method.

    Attributes:
        options: its config, small sizes.
        encoders: names of `ENCODERS` that it trains.
        refused: names of `small_encoders.SMALL` that it cannot train.
        broken: ways to break it, by what they are.
        joined: whether two processes train exactly what one does.
        patch: side of its crops of volumes of 16; 0: as large as they are.
    """

    options: dict[str, Any] = field(default_factory=dict)
    encoders: tuple[str, ...] = ("unet", "vit")
    refused: tuple[str, ...] = ()
    broken: dict[str, Broken] = field(default_factory=dict)
    joined: bool = True
    patch: int = 0


def case(name: str) -> Case:
    """The case of a method."""
    found: Case = importlib.import_module(f"method_cases.{name}").CASE
    return found


def make(name: str, encoder: str = "", dims: int = 2, side: int = 16, **options: Any) -> Method:
    """A small method with an encoder of `ENCODERS` or `SMALL`, the first of its case where none is
    named; the same every time."""
    torch.manual_seed(0)
    kind, encoder = method_class(name), encoder or case(name).encoders[0]
    family, sizes = (encoder, ENCODERS[encoder]) if encoder in ENCODERS else SMALL[encoder]
    spec = kind.encoder_for(EncoderSpec(name=family, dims=dims, options=sizes))
    built = build_encoder(spec.name, dims, 1, **spec.options)
    config = kind.Config(**(case(name).options | options))
    return kind(config, built, Samples((side,) * dims, 64))


def images(count: int, dims: int, side: int = 16, first: int = 0) -> torch.Tensor:
    """Smooth pictures that differ: (count, 1, *side), mean about 0."""
    axes = torch.meshgrid(*[torch.arange(side) / side] * dims, indexing="ij")
    made = []
    for number in range(first, first + count):
        generator = torch.Generator().manual_seed(number)
        image = 0.2 * torch.randn(*[side] * dims, generator=generator)
        for _ in range(3):
            wave, phase = (
                torch.randn(dims, generator=generator),
                torch.rand((), generator=generator),
            )
            turns = sum(6 * w * axis for w, axis in zip(wave, axes, strict=True))
            image = image + torch.sin(turns + 6 * phase)
        made.append(image)
    return torch.stack(made)[:, None]


def crops(count: int = 4, dims: int = 2, side: int = 16, first: int = 0, epoch: int = 0) -> Crops:
    """A batch of pictures with their keys."""
    numbers = range(first, first + count)
    keys = torch.tensor([sample_key(0, epoch, number) for number in numbers])
    volume = torch.tensor([number % 64 for number in numbers])
    image, spacing = images(count, dims, side, first), torch.ones(count, dims)
    place, extent = places(count, dims, side, first)
    return Crops(image, Draw(keys, 1), spacing, volume, volume, place, extent)


def places(
    count: int, dims: int, side: int = 16, first: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Where those pictures lie, of 1 mm a voxel, in volumes of twice their side: (count, dims,
    dims + 1) and (count, dims)."""
    place = torch.eye(dims, dims + 1).repeat(count, 1, 1)
    for row, number in enumerate(range(first, first + count)):
        start = [(7 * number + 5 * axis) % (side + 1) for axis in range(dims)]
        place[row, :, -1] = torch.tensor(start) + 0.5
    return place, torch.full((count, dims), 2.0 * side)
