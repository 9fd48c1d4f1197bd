"""Losses: one nn.Module a file, pure tensors."""

from __future__ import annotations

from medssl.losses.barlow_twins import BarlowTwins
from medssl.losses.dice import DiceCE
from medssl.losses.marginal import marginal_logits
from medssl.losses.masked_mse import MaskedMSE, denormalise_patches
from medssl.losses.nt_xent import NTXent
from medssl.losses.vicreg import VICReg

__all__ = [
    "BarlowTwins",
    "DiceCE",
    "MaskedMSE",
    "NTXent",
    "VICReg",
    "denormalise_patches",
    "marginal_logits",
]
