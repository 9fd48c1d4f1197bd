"""Whole models: an encoder alone or with the part that does a task."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from medssl.networks.decoder import decoder_for
from medssl.networks.encoder import Encoder
from medssl.networks.heads import ClassificationHead
from medssl.networks.mednext import MedNeXt
from medssl.networks.patches import crop_to, pad_to_multiple
from medssl.networks.place_embedding import PlaceEmbedding
from medssl.networks.resnet import ResNet
from medssl.networks.swin import Swin
from medssl.networks.unet import UNetEncoder
from medssl.networks.vit import ViT

ENCODERS: dict[str, type[Encoder]] = {
    "unet": UNetEncoder,
    "resnet": ResNet,
    "mednext": MedNeXt,
    "vit": ViT,
    "swin": Swin,
}


def build_encoder(name: str, dims: int, in_channels: int, **options: Any) -> Encoder:
    """The encoder of this name (`ENCODERS`).

    Args:
        name: "unet", "resnet", "mednext", "vit" or "swin".
        dims: 2 or 3.
        in_channels: channels of the image.
        options: keyword arguments of the encoder's class.

    Raises:
        ValueError: unknown name, option or number of dimensions, or a value the encoder refuses.
    """
    if name not in ENCODERS:
        raise ValueError(f"there is no encoder named {name!r}; there are {sorted(ENCODERS)}")
    if dims not in (2, 3):
        raise ValueError(f"an encoder has 2 or 3 dimensions, not {dims}")
    kind: Any = ENCODERS[name]
    known = set(inspect.signature(kind).parameters) - {"dims", "in_channels"}
    unknown = set(options) - known
    if unknown:
        raise ValueError(f"{name} has no option {sorted(unknown)}; it has {sorted(known)}")
    encoder: Encoder = kind(dims, in_channels, **options)
    return encoder


class EncoderOnly(nn.Module):
    """An encoder under the name it has in every other model, so its weights are `encoder.*`."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> list[Tensor]:
        """Feature maps, as `Encoder.forward`."""
        features: list[Tensor] = self.encoder(x)
        return features


class Segmenter(nn.Module):
    """An encoder and a U-Net decoder.

    Args:
        encoder: any.
        classes: number of classes, background among them.
    """

    def __init__(self, encoder: Encoder, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder_for(encoder, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, *spatial) of any size -> logits (B, classes, *spatial)."""
        padded = pad_to_multiple(x, self.encoder.strides[-1])
        return crop_to(self.decoder(self.encoder(padded), padded), x.shape[2:])


class Classifier(nn.Module):
    """An encoder and a linear head on its pooled features.

    Args:
        encoder: any.
        classes: number of logits; 1 serves regression.
    """

    def __init__(self, encoder: Encoder, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = ClassificationHead(encoder.channels[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, *spatial) -> logits (B, classes)."""
        logits: Tensor = self.head(self.encoder(x))
        return logits


def build_model(architecture: Mapping[str, Any]) -> nn.Module:
    """The model a bundle describes.

    Args:
        architecture: {"encoder": {"name", "dims", "in_channels", "options"}, "task": None or
            {"kind": "segmentation" | "classification" | "regression", "classes": n}}.

    Raises:
        ValueError: unknown encoder, option or task.
    """
    encoder = _encoder_of(architecture)
    task = architecture.get("task")
    if task is None:
        return EncoderOnly(encoder)
    tasks = {
        "segmentation": Segmenter,
        "classification": Classifier,
        "regression": Classifier,
    }
    if task["kind"] not in tasks:
        raise ValueError(f"there is no task {task['kind']!r}; there are {sorted(tasks)}")
    return tasks[task["kind"]](encoder, task["classes"])


def build_embedding(architecture: Mapping[str, Any]) -> PlaceEmbedding:
    """The embedding of places that a bundle describes.

    Args:
        architecture: as for :func:`build_model`; its "embedding" has the sizes.

    Raises:
        ValueError: unknown encoder or option, or sizes that do not go together.
        TypeError: an unknown size.
    """
    return PlaceEmbedding(_encoder_of(architecture), **architecture["embedding"])


def _encoder_of(architecture: Mapping[str, Any]) -> Encoder:
    spec = architecture["encoder"]
    options = spec.get("options") or {}
    return build_encoder(spec["name"], spec["dims"], spec["in_channels"], **options)
