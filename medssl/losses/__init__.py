"""Losses: one nn.Module a file, pure tensors."""

from __future__ import annotations

from medssl.losses.dice import DiceCE
from medssl.losses.marginal import marginal_logits
from medssl.losses.masked_mse import MaskedMSE, denormalise_patches
from medssl.losses.nt_xent import NTXent

__all__ = ["DiceCE", "MaskedMSE", "NTXent", "denormalise_patches", "marginal_logits"]
