"""Masked autoencoding: hide cells of the image, reconstruct them from the rest.

With a ViT the encoder sees visible tokens alone (He et al. 2022, "Masked autoencoders are scalable
vision learners", section 3); with a convolutional U-Net masked positions stay empty through every
layer (Tian et al. 2023, "SparK", section 3).
"""

from __future__ import annotations

import math

from pydantic import Field
from torch import Tensor

from medssl.losses import MaskedMSE, denormalise_patches
from medssl.methods.base import Crops, Method, MethodConfig, Samples, Step
from medssl.methods.view_config import ViewConfig
from medssl.networks import ConvReconstructor, Encoder, TokenReconstructor, ViT
from medssl.views import make_view, masked_count, random_mask, upsample_mask


class MAEConfig(MethodConfig):
    """``mask_ratio`` of the cells are hidden; ``mask_cell`` is a cell's edge in voxels (0: the
    ViT's patch, or the U-Net's total stride). ``normalise_patches`` compares every cell after
    removing its mean and deviation. The decoder's sizes are the ViT's; the U-Net has its own.
    """

    mask_ratio: float = Field(0.6, gt=0, lt=1)
    mask_cell: int = Field(0, ge=0)
    normalise_patches: bool = False
    decoder_dim: int = Field(96, ge=12)
    decoder_depth: int = Field(2, ge=1)
    view: ViewConfig = ViewConfig(rotation=10.0, scale=(0.9, 1.1))


class MAE(Method):
    """Masked autoencoding with any encoder."""

    Config = MAEConfig

    def __init__(self, config: MAEConfig, encoder: Encoder, samples: Samples) -> None:
        super().__init__(config, encoder, samples)
        patch_size = samples.patch_size
        if isinstance(encoder, ViT):
            self.reconstructor: TokenReconstructor | ConvReconstructor = TokenReconstructor(
                encoder, config.decoder_dim, config.decoder_depth
            )
        else:
            self.reconstructor = ConvReconstructor(encoder)
        cell = config.mask_cell or encoder.strides[-1]
        if any(size % cell for size in patch_size) or cell % encoder.strides[-1]:
            raise ValueError(
                f"a patch of {list(patch_size)} is not a whole number of cells of {cell} voxels, "
                f"or the cell not a multiple of the encoder's stride {encoder.strides[-1]}"
            )
        self._size = patch_size
        self._grid = tuple(size // cell for size in patch_size)
        self._visible = math.prod(self._grid) - masked_count(self._grid, config.mask_ratio)
        self._ratio, self._settings = config.mask_ratio, config.view.settings()
        self._normalise = config.normalise_patches
        self._loss = MaskedMSE(config.normalise_patches)

    @property
    def encoder(self) -> Encoder:
        """The encoder, as the reconstructor holds it."""
        return self.reconstructor.encoder

    def step(self, crops: Crops) -> Step:
        """Mean squared error on the hidden cells of an augmented crop."""
        image, mask = self._masked(crops)
        if isinstance(self.reconstructor, TokenReconstructor):
            predicted, target, embedding = self.reconstructor.masked_patches(
                image, mask, self._visible
            )
            return Step(self._loss.of_patches(predicted, target), embedding=embedding)
        reconstruction, embedding = self.reconstructor.with_embedding(image, mask)
        return Step(self._loss(reconstruction, image, mask), embedding=embedding)

    def views(self, crops: Crops) -> list[Tensor]:
        """One view of every crop, before masking."""
        return [make_view(crops.image, crops.draw, self._settings, self._size, crops.spacing).image]

    def preview(self, crops: Crops) -> dict[str, Tensor]:
        """The original, what is left of it, and the reconstruction of the hidden cells."""
        image, mask = self._masked(crops)
        reconstruction = self.reconstructor(image, mask, self._visible)
        if self._normalise:
            reconstruction = denormalise_patches(reconstruction, image, self._grid)
        hidden = upsample_mask(mask, image.shape[2:])
        return {
            "original": image,
            "masked": image.masked_fill(hidden, float(image.min())),
            "reconstruction": image.where(~hidden, reconstruction),
        }

    def bundle_state(self) -> dict[str, Tensor]:
        """The encoder's weights and, of the U-Net, the decoder's."""
        state = self.reconstructor.state_dict()
        return {k: v for k, v in state.items() if k.startswith(("encoder.", "decoder."))}

    def _masked(self, crops: Crops) -> tuple[Tensor, Tensor]:
        (image,) = self.views(crops)
        return image, random_mask(crops.draw.fork(2), self._grid, self._ratio)
