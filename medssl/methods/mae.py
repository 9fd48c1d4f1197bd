"""Masked autoencoding: hide cells of the image, reconstruct them from the rest.

With a ViT the encoder sees visible tokens alone (He et al. 2022, "Masked autoencoders are scalable
vision learners", section 3); with a convolutional U-Net masked positions stay empty through every
layer (Tian et al. 2023, "SparK", section 3).
"""

from __future__ import annotations

import math

from pydantic import Field
from torch import Tensor

from medssl.losses import MaskedMSE, Target
from medssl.methods.base import Crops, Samples, Step
from medssl.methods.masked import CellsConfig, MaskedCells, Reconstruction
from medssl.networks import Encoder, TokenReconstructor, reconstructor_for
from medssl.views import masked_count


class MAEConfig(CellsConfig):
    """``mask_ratio`` of the cells are hidden; ``mask_cell`` is a cell's edge in voxels (0: the
    ViT's patch, or the U-Net's total stride). ``target`` is what is predicted of a hidden cell: its
    voxels, the length of their gradient, or histograms of its orientation. ``normalise_patches``
    compares every cell after removing its mean and deviation. The decoder's sizes are the ViT's;
    the U-Net has its own.
    """

    decoder_dim: int = Field(96, ge=12)
    decoder_depth: int = Field(2, ge=1)


class MAE(MaskedCells):
    """Masked autoencoding with any encoder."""

    Config = MAEConfig

    def __init__(self, config: MAEConfig, encoder: Encoder, samples: Samples) -> None:
        super().__init__(config, encoder, samples)
        self.reconstructor = reconstructor_for(
            encoder,
            self.target.channels(encoder.in_channels, encoder.dims),
            self.target.cell,
            config.decoder_dim,
            config.decoder_depth,
        )
        self._visible = math.prod(self._grid) - masked_count(self._grid, config.mask_ratio)
        self._loss = MaskedMSE(config.normalise_patches)

    @property
    def encoder(self) -> Encoder:
        """The encoder, as the reconstructor holds it."""
        return self.reconstructor.encoder

    def step(self, crops: Crops) -> Step:
        """Mean squared error on the hidden cells of an augmented crop."""
        image, mask = self._masked(crops)
        if isinstance(self.reconstructor, TokenReconstructor):
            # The image's own patches are cut already.
            asked = None if type(self.target) is Target else self.target(image)
            predicted, truth, embedding = self.reconstructor.masked_patches(
                image, mask, self._visible, asked
            )
            return Step(self._loss.of_patches(predicted, truth), embedding=embedding)
        reconstruction, embedding = self.reconstructor.with_embedding(image, mask)
        loss = self._loss(reconstruction, self.target(image), mask)
        return Step(loss, embedding=embedding)

    def reconstruct(self, crops: Crops) -> Reconstruction:
        """See `Masked.reconstruct`."""
        image, mask = self._masked(crops)
        return self._reconstruction(image, mask, self.reconstructor(image, mask, self._visible))

    def bundle_state(self) -> dict[str, Tensor]:
        """The encoder's weights and, of the U-Net, the decoder's."""
        state = self.reconstructor.state_dict()
        return {k: v for k, v in state.items() if k.startswith(("encoder.", "decoder."))}
