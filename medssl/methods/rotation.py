"""Rotation: say by which rotation of a square or a cube a view was turned (Gidaris et al. 2018,
"Unsupervised representation learning by predicting image rotations")."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from medssl.methods.base import Crops, Samples, Step
from medssl.methods.joint import check_local
from medssl.methods.pretext import ANSWER, Pretext, PretextConfig, answered
from medssl.networks import Encoder, pooled
from medssl.views import cube_rotations, equally_sharp, rotate


class RotationConfig(PretextConfig):
    """Which part of a crop is looked at, how its intensity is changed, and which rotations there
    are: 4 in 2D, 24 in 3D, or the 4 about one ``axis``.
    """

    axis: Literal[0, 1, 2] | None = Field(
        None, description="3D: turn about this axis alone, the one across thick slices"
    )


class Rotation(Pretext):
    """Rotation with any encoder.

    Modules: ``encoder`` and ``head``, a linear layer on pooled features.

    Attributes:
        rotations: int64 (n, d, d), those there are.
    """

    Config = RotationConfig
    rotations: Tensor

    def __init__(self, config: RotationConfig, encoder: Encoder, samples: Samples) -> None:
        super().__init__(config, encoder, samples)
        self._size = (min(samples.patch_size),) * encoder.dims
        check_local(encoder, self._size, "views", "take another patch_size")
        rotations = cube_rotations(encoder.dims, config.axis)
        self.register_buffer("rotations", rotations, persistent=False)
        self.head = nn.Linear(encoder.channels[-1], len(rotations))

    def step(self, crops: Crops) -> Step:
        """Cross entropy of the rotation that each view was turned by."""
        features, logits = self._guess(*self.views(crops))
        return answered(logits, self._drawn(crops), features)

    def views(self, crops: Crops) -> list[Tensor]:
        """One view of every crop: a cube in mm, as many voxels along each axis, turned."""
        turned = rotate(self._upright(crops), self.rotations[self._drawn(crops)])
        # After the turn: no change of intensity then tells the axes of the crop apart.
        return [self.change(turned, crops.draw)]

    def preview(self, crops: Crops) -> dict[str, Tensor]:
        """The crop, the part of it, that part turned, and turned back as the network says."""
        (view,) = self.views(crops)
        guessed = self.rotations[self._guess(view)[1].argmax(1)]
        return {
            "crop": crops.image,
            "part": self._upright(crops),
            "turned": view,
            "turned back": rotate(view, guessed.transpose(1, 2)),
        }

    def _drawn(self, crops: Crops) -> Tensor:
        """The number of each crop's rotation: int64 (B,)."""
        return crops.draw.fork(ANSWER).integers(0, len(self.rotations))

    def _upright(self, crops: Crops) -> Tensor:
        """The cube before its turn, no axis of it sharper than another."""
        first, last = edges = self.part(crops, cube=True)
        voxel = (last - first) * crops.spacing / self._size[0]
        return equally_sharp(self.look(crops, edges, self._size), crops.spacing, voxel)

    def _guess(self, view: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled features (B, channels), and logits of the rotations (B, n)."""
        features = pooled(self.encoder(view))
        return features, self.head(features)
