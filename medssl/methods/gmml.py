"""GMML: recover what noise or another image has replaced (Atito et al. 2022, "GMML is all you
need")."""

from __future__ import annotations

from medssl.losses import MaskedL1
from medssl.methods.base import Crops, Samples, Step
from medssl.methods.corruption import Corruption, CorruptionConfig
from medssl.methods.masked import Masked, OneViewConfig, Reconstruction
from medssl.networks import Encoder, PatchHead, pooled


class GMMLConfig(OneViewConfig, CorruptionConfig):
    """Which part of a view is replaced, and by what; how the view is drawn."""


class GMML(Masked):
    """Group masked model learning with any encoder.

    Modules: ``encoder`` and ``head``.
    """

    Config = GMMLConfig

    def __init__(self, config: GMMLConfig, encoder: Encoder, samples: Samples) -> None:
        super().__init__(config, encoder, samples)
        self.encoder, self.head = encoder, PatchHead(encoder)
        self._corruption = Corruption(config, encoder, samples.patch_size)
        self._loss = MaskedL1()

    def step(self, crops: Crops) -> Step:
        """Mean absolute error on the replaced voxels."""
        (image,) = self.views(crops)
        given, mask = self._corruption.apply(image, crops.draw.fork(1000))
        features = self.encoder(given)
        loss = self._loss(self.head(features), image, mask)
        return Step(loss, embedding=pooled(features).detach())

    def reconstruct(self, crops: Crops) -> Reconstruction:
        """See `Masked.reconstruct`."""
        (image,) = self.views(crops)
        given, mask = self._corruption.apply(image, crops.draw.fork(1000))
        return Reconstruction(image, given, mask, self.head(self.encoder(given)))
