"""Encoders, decoders and heads, in 2D and 3D from one definition."""

from __future__ import annotations

from medssl.networks.decoder import Decoder
from medssl.networks.direct_predictor import DirectPredictor
from medssl.networks.encoder import Encoder
from medssl.networks.heads import ClassificationHead, Embedder, PatchHead, Projector, pooled
from medssl.networks.mae import (
    ConvReconstructor,
    TokenDecoder,
    TokenReconstructor,
    visible_first,
)
from medssl.networks.mednext import MedNeXt
from medssl.networks.memory import Memory
from medssl.networks.models import (
    ENCODERS,
    Classifier,
    EncoderOnly,
    Segmenter,
    build_encoder,
    build_model,
)
from medssl.networks.norms import BatchNorm
from medssl.networks.prototypes import Prototypes
from medssl.networks.queue import Queue
from medssl.networks.resnet import ResNet
from medssl.networks.slices import SliceEncoder
from medssl.networks.swin import Swin
from medssl.networks.teacher import Teacher, cosine_between
from medssl.networks.unet import UNetEncoder
from medssl.networks.vit import ViT

__all__ = [
    "ENCODERS",
    "BatchNorm",
    "ClassificationHead",
    "Classifier",
    "ConvReconstructor",
    "Decoder",
    "DirectPredictor",
    "Embedder",
    "Encoder",
    "EncoderOnly",
    "MedNeXt",
    "Memory",
    "PatchHead",
    "Projector",
    "Prototypes",
    "Queue",
    "ResNet",
    "Segmenter",
    "SliceEncoder",
    "Swin",
    "Teacher",
    "TokenDecoder",
    "TokenReconstructor",
    "UNetEncoder",
    "ViT",
    "build_encoder",
    "build_model",
    "cosine_between",
    "pooled",
    "visible_first",
]
