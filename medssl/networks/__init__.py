"""Encoders, decoders and heads, in 2D and 3D from one definition."""

from __future__ import annotations

from medssl.networks.decoder import Decoder
from medssl.networks.encoder import Encoder
from medssl.networks.heads import ClassificationHead, Projector, pooled
from medssl.networks.mae import ConvReconstructor, TokenReconstructor
from medssl.networks.models import (
    ENCODERS,
    Classifier,
    EncoderOnly,
    Segmenter,
    build_encoder,
    build_model,
)
from medssl.networks.unet import UNetEncoder
from medssl.networks.vit import ViT

__all__ = [
    "ENCODERS",
    "ClassificationHead",
    "Classifier",
    "ConvReconstructor",
    "Decoder",
    "Encoder",
    "EncoderOnly",
    "Projector",
    "Segmenter",
    "TokenReconstructor",
    "UNetEncoder",
    "ViT",
    "build_encoder",
    "build_model",
    "pooled",
]
