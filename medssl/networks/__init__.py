"""Encoders, decoders and heads, in 2D and 3D from one definition."""

from __future__ import annotations

from medssl.networks.casa import CrossAttention
from medssl.networks.decoder import Decoder
from medssl.networks.direct_predictor import DirectPredictor
from medssl.networks.encoder import Encoder
from medssl.networks.heads import ClassificationHead, Embedder, PatchHead, Projector, pooled
from medssl.networks.mae import ConvReconstructor, TokenReconstructor, reconstructor_for
from medssl.networks.masked_student import MaskedStudent
from medssl.networks.mednext import MedNeXt
from medssl.networks.memory import Memory
from medssl.networks.models import (
    ENCODERS,
    Classifier,
    EncoderOnly,
    Segmenter,
    build_embedding,
    build_encoder,
    build_model,
)
from medssl.networks.norms import BatchNorm
from medssl.networks.place_embedding import PlaceEmbedding, PlaceMaps, PlacePoints
from medssl.networks.prototypes import Prototypes
from medssl.networks.queue import Queue
from medssl.networks.resnet import ResNet
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
    "CrossAttention",
    "Decoder",
    "DirectPredictor",
    "Embedder",
    "Encoder",
    "EncoderOnly",
    "MaskedStudent",
    "MedNeXt",
    "Memory",
    "PatchHead",
    "PlaceEmbedding",
    "PlaceMaps",
    "PlacePoints",
    "Projector",
    "Prototypes",
    "Queue",
    "ResNet",
    "Segmenter",
    "Swin",
    "Teacher",
    "TokenReconstructor",
    "UNetEncoder",
    "ViT",
    "build_embedding",
    "build_encoder",
    "build_model",
    "cosine_between",
    "pooled",
    "reconstructor_for",
]
