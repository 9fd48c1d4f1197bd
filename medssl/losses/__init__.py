"""Losses: one nn.Module a file, pure tensors."""

from __future__ import annotations

from medssl.losses.barlow_twins import BarlowTwins
from medssl.losses.dcl import DCL
from medssl.losses.dice import DiceCE
from medssl.losses.info_nce import InfoNCE
from medssl.losses.marginal import marginal_logits
from medssl.losses.masked_mse import MaskedMSE, denormalise_patches
from medssl.losses.mixed_barlow import MixedBarlow
from medssl.losses.nt_xent import NTXent
from medssl.losses.relation import Relation
from medssl.losses.vicreg import VICReg

__all__ = [
    "DCL",
    "BarlowTwins",
    "DiceCE",
    "InfoNCE",
    "MaskedMSE",
    "MixedBarlow",
    "NTXent",
    "Relation",
    "VICReg",
    "denormalise_patches",
    "marginal_logits",
]
