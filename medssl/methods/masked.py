"""What masked methods share: a view of a crop, cells that are hidden, what is predicted of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import Field, model_validator
from torch import Tensor

from medssl.losses import HOG, GradientMagnitude, Target, denormalise_patches, normalise_patches
from medssl.methods.base import Crops, Method, MethodConfig, Samples
from medssl.methods.view_config import ViewConfig
from medssl.networks import Encoder
from medssl.views import make_view, random_mask, upsample_mask


class OneViewConfig(MethodConfig):
    """How the one view is drawn."""

    view: ViewConfig = ViewConfig(rotation=10.0, scale=(0.9, 1.1))


class CellsConfig(OneViewConfig):
    """``mask_ratio`` of the cells are hidden; ``mask_cell`` is a cell's edge in voxels (0: the
    encoder's total stride, which is a ViT's patch). ``target`` is what is predicted of a hidden
    cell: its voxels, the length of their gradient, or histograms of its orientation.
    ``normalise_patches`` compares every cell after removing its mean and deviation.
    """

    mask_ratio: float = Field(0.6, gt=0, lt=1)
    mask_cell: int = Field(0, ge=0)
    target: Literal["pixels", "gradient", "hog"] = "pixels"
    normalise_patches: bool = False

    @model_validator(mode="after")
    def _normalised_once(self) -> Self:
        if self.target == "hog" and self.normalise_patches:
            raise ValueError("histograms of gradients are normalised already: leave one out")
        return self


@dataclass(frozen=True)
class Reconstruction:
    """What a masked method made of a batch.

    Attributes:
        image: the view, (B, C, *size).
        given: what the encoder got of it, as an image, (B, C, *size).
        mask: bool (B, 1, *size), True = hidden.
        prediction: of the target, (B, channels, *size / cell).
    """

    image: Tensor
    given: Tensor
    mask: Tensor
    prediction: Tensor


class Masked(Method):
    """Base of the methods that hide parts of one view and predict them.

    Attributes:
        target: what is predicted of the view.
    """

    def __init__(self, config: Any, encoder: Encoder, samples: Samples) -> None:
        super().__init__(config, encoder, samples)
        self._size, self._settings = samples.patch_size, config.view.settings()
        self._grid = cells_of(samples.patch_size, config.mask_cell, encoder)
        self.target = target_of(getattr(config, "target", "pixels"), encoder)

    def views(self, crops: Crops) -> list[Tensor]:
        """One view of every crop, before masking."""
        return [make_view(crops.image, crops.draw, self._settings, self._size, crops.spacing).image]

    def reconstruct(self, crops: Crops) -> Reconstruction:
        """Hide parts of a view and predict them."""
        raise TypeError(f"{type(self).__name__} reconstructs nothing")

    def preview(self, crops: Crops) -> dict[str, Tensor]:
        """The original, what is left of it, and the prediction at the hidden places; of another
        target than voxels, the target too, stretched to each original's range.
        """
        return pictures(self.reconstruct(crops), self.target)


class MaskedCells(Masked):
    """Base of those that hide the same number of cells in every sample."""

    def __init__(self, config: CellsConfig, encoder: Encoder, samples: Samples) -> None:
        super().__init__(config, encoder, samples)
        self._ratio, self._normalise = config.mask_ratio, config.normalise_patches

    def _masked(self, crops: Crops) -> tuple[Tensor, Tensor]:
        (image,) = self.views(crops)
        return image, random_mask(crops.draw.fork(2), self._grid, self._ratio)

    def _asked(self, image: Tensor) -> Tensor:
        """The target as the loss compares it."""
        target = self.target(image)
        return normalise_patches(target, self._grid) if self._normalise else target

    def _reconstruction(self, image: Tensor, mask: Tensor, prediction: Tensor) -> Reconstruction:
        if self._normalise:
            prediction = denormalise_patches(prediction, self.target(image), self._grid)
        hidden = upsample_mask(mask, image.shape[2:])
        given = image.masked_fill(hidden, float(image.min()))
        return Reconstruction(image, given, hidden, prediction)


def pictures(made: Reconstruction, target_of_view: Target) -> dict[str, Tensor]:
    """The original, what is left of it, and the prediction at the hidden places; of another target
    than voxels, the target too, stretched to each original's range: (B, C, ...) each.
    """
    found = {"original": made.image, "masked": made.given}
    target = target_of_view(made.image)
    cell = slice(None, None, target_of_view.cell)
    first: tuple[Any, ...] = (..., *(cell,) * (target.ndim - 2))
    filled = target.where(~made.mask[first], made.prediction.to(target.dtype))
    if type(target_of_view) is Target:
        return {**found, "reconstruction": filled}
    target, filled = in_range_of(
        made.image, target_of_view.shown(target), target_of_view.shown(filled)
    )
    return {**found, "target": target, "reconstruction": filled}


def in_range_of(image: Tensor, target: Tensor, prediction: Tensor) -> tuple[Tensor, Tensor]:
    """A target and a prediction of it, stretched so that the target has each image's range; all
    (B, C, *any)."""
    axes = tuple(range(1, target.ndim))
    low, dark = target.amin(axes, keepdim=True), image.amin(axes, keepdim=True)
    scale = (image.amax(axes, keepdim=True) - dark) / (target.amax(axes, keepdim=True) - low).clamp(
        min=1e-6
    )
    return dark + (target - low) * scale, dark + (prediction - low) * scale


def cells_of(size: Sequence[int], mask_cell: int, encoder: Encoder) -> tuple[int, ...]:
    """How many cells there are along each axis of a view.

    Raises:
        ValueError: they do not divide it, or are no multiple of the encoder's total stride.
    """
    stride = encoder.strides[-1]
    cell = mask_cell or stride
    if any(n % cell for n in size) or cell % stride:
        raise ValueError(
            f"a patch of {list(size)} is not a whole number of cells of {cell} voxels, "
            f"or the cell not a multiple of the encoder's stride {stride}"
        )
    return tuple(n // cell for n in size)


def target_of(name: str, encoder: Encoder) -> Target:
    """The target by its name in a config.

    Histograms are of half the encoder's total stride, as in MaskFeat (8 voxels of 16), but of no
    fewer than 4 voxels a side where the stride has as many.
    """
    if name == "gradient":
        return GradientMagnitude()
    if name == "hog":
        stride = encoder.strides[-1]
        return HOG(stride // 2 if stride % 2 == 0 and stride >= 8 else stride)
    return Target()
