"""SimMIM: masked patches hold a learned token, and a linear head predicts them (Xie et al. 2022,
"SimMIM: a simple framework for masked image modeling")."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medssl.losses import MaskedL1
from medssl.methods.base import Crops, Samples, Step
from medssl.methods.masked import CellsConfig, MaskedCells, Reconstruction
from medssl.networks import Encoder, PatchHead, pooled
from medssl.views import upsample_mask


class SimMIM(MaskedCells):
    """SimMIM with any encoder. What has no patches to put a token for, a convolutional encoder,
    gets one learned value a channel in every masked voxel.

    Modules: ``encoder``, ``head`` and the parameter ``mask_token``.
    """

    Config = CellsConfig

    def __init__(self, config: CellsConfig, encoder: Encoder, samples: Samples) -> None:
        super().__init__(config, encoder, samples)
        self.encoder = encoder
        channels = self.target.channels(encoder.in_channels, encoder.dims)
        self.head = PatchHead(encoder, channels, self.target.cell)
        # A voxel's value starts at the mean of a normalised image.
        self.mask_token = nn.Parameter(torch.zeros(encoder.token_width or encoder.in_channels))
        if encoder.token_width:
            nn.init.normal_(self.mask_token, std=0.02)
        self._loss = MaskedL1()

    def step(self, crops: Crops) -> Step:
        """Mean absolute error on the masked places of an augmented crop."""
        image, mask = self._masked(crops)
        features = self._encoded(image, mask)
        predicted, asked = self.head(features), self._asked(image)
        loss = self._loss(predicted, asked, upsample_mask(mask, asked.shape[2:]))
        return Step(loss, embedding=pooled(features).detach())

    def reconstruct(self, crops: Crops) -> Reconstruction:
        """See `Masked.reconstruct`."""
        image, mask = self._masked(crops)
        return self._reconstruction(image, mask, self.head(self._encoded(image, mask)))

    def _encoded(self, image: Tensor, mask: Tensor) -> list[Tensor]:
        """Feature maps of the whole image, masked places holding the token."""
        if self.encoder.token_width:
            tokens: list[Tensor] = self.encoder(image, ~mask, self.mask_token)
            return tokens
        value = self.mask_token.reshape(-1, *(1,) * self.encoder.dims)
        voxels: list[Tensor] = self.encoder(
            torch.where(upsample_mask(mask, image.shape[2:]), value, image)
        )
        return voxels
