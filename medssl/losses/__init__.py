"""Losses: one nn.Module a file, pure tensors."""

from __future__ import annotations

from medssl.losses.barlow_twins import BarlowTwins
from medssl.losses.cell_nce import CellInfoNCE
from medssl.losses.centred import CentredCE
from medssl.losses.dcl import DCL
from medssl.losses.deepcluster import DeepCluster
from medssl.losses.dice import DiceCE
from medssl.losses.dino import DINO
from medssl.losses.hog import HOG
from medssl.losses.info_nce import InfoNCE
from medssl.losses.inter_dimension import InterDimension
from medssl.losses.kmeans import spherical_kmeans
from medssl.losses.marginal import marginal_logits
from medssl.losses.masked_l1 import MaskedL1
from medssl.losses.masked_mse import MaskedMSE, denormalise_patches, normalise_patches
from medssl.losses.mixed_barlow import MixedBarlow
from medssl.losses.negative_cosine import NegativeCosine
from medssl.losses.nt_xent import NTXent
from medssl.losses.partition_contrast import PartitionContrast
from medssl.losses.pixel_consistency import PixelConsistency
from medssl.losses.place_contrast import PlaceContrast
from medssl.losses.region_contrast import RegionContrast
from medssl.losses.relation import Relation
from medssl.losses.sinkhorn import sinkhorn
from medssl.losses.swav import SwAV
from medssl.losses.targets import GradientMagnitude, Target
from medssl.losses.vicreg import VICReg

__all__ = [
    "DCL",
    "DINO",
    "HOG",
    "BarlowTwins",
    "CellInfoNCE",
    "CentredCE",
    "DeepCluster",
    "DiceCE",
    "GradientMagnitude",
    "InfoNCE",
    "InterDimension",
    "MaskedL1",
    "MaskedMSE",
    "MixedBarlow",
    "NTXent",
    "NegativeCosine",
    "PartitionContrast",
    "PixelConsistency",
    "PlaceContrast",
    "RegionContrast",
    "Relation",
    "SwAV",
    "Target",
    "VICReg",
    "denormalise_patches",
    "marginal_logits",
    "normalise_patches",
    "sinkhorn",
    "spherical_kmeans",
]
