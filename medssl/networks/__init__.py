"""Encoders, decoders and heads, in 2D and 3D from one definition."""

from __future__ import annotations

from medssl.networks.casa import CrossAttention
from medssl.networks.decoder import Ascent, Decoder, first_stages_of_decoder
from medssl.networks.dense import DenseEmbedder, DenseProjector, dense_embedding
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
from medssl.networks.propagation import Propagation
from medssl.networks.prototypes import Prototypes
from medssl.networks.queue import Queue
from medssl.networks.resnet import ResNet
from medssl.networks.slices import SliceEncoder
from medssl.networks.subject_queue import SubjectQueue
from medssl.networks.swin import Swin
from medssl.networks.teacher import Teacher, cosine_between
from medssl.networks.token_decoder import TokenDecoder, visible_first
from medssl.networks.unet import UNetEncoder
from medssl.networks.vit import ViT

__all__ = [
    "ENCODERS",
    "Ascent",
    "BatchNorm",
    "ClassificationHead",
    "Classifier",
    "ConvReconstructor",
    "CrossAttention",
    "Decoder",
    "DenseEmbedder",
    "DenseProjector",
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
    "Propagation",
    "Prototypes",
    "Queue",
    "ResNet",
    "Segmenter",
    "SliceEncoder",
    "SubjectQueue",
    "Swin",
    "Teacher",
    "TokenDecoder",
    "TokenReconstructor",
    "UNetEncoder",
    "ViT",
    "build_embedding",
    "build_encoder",
    "build_model",
    "cosine_between",
    "dense_embedding",
    "first_stages_of_decoder",
    "pooled",
    "reconstructor_for",
    "visible_first",
]
