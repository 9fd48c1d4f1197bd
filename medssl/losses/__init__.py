"""Losses: one nn.Module a file, pure tensors."""

from __future__ import annotations

from medssl.losses.barlow_twins import BarlowTwins
from medssl.losses.deepcluster import DeepCluster
from medssl.losses.dice import DiceCE
from medssl.losses.kmeans import spherical_kmeans
from medssl.losses.marginal import marginal_logits
from medssl.losses.masked_mse import MaskedMSE, denormalise_patches
from medssl.losses.nt_xent import NTXent
from medssl.losses.sinkhorn import sinkhorn
from medssl.losses.swav import SwAV
from medssl.losses.vicreg import VICReg

__all__ = [
    "BarlowTwins",
    "DeepCluster",
    "DiceCE",
    "MaskedMSE",
    "NTXent",
    "SwAV",
    "VICReg",
    "denormalise_patches",
    "marginal_logits",
    "sinkhorn",
    "spherical_kmeans",
]
