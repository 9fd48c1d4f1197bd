"""The reconstruction loss of masked image modelling."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_EPSILON = 1e-6


class MaskedMSE(nn.Module):
    """Mean squared error on masked patches only (He et al. 2022, "Masked autoencoders", sec. 3).

    Args:
        normalise_patches: compare with each patch's voxels minus their mean, divided by their
            standard deviation (over channels and voxels of the patch), as the paper found better.
    """

    def __init__(self, normalise_patches: bool = False) -> None:
        super().__init__()
        self.normalise_patches = normalise_patches

    def forward(self, prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """Scalar float32 (float64 for float64 input); 0 where nothing is masked.

        Args:
            prediction: (B, C, *spatial).
            target: (B, C, *spatial).
            mask: bool (B, 1, *grid), True = masked; a patch is spatial / grid voxels.

        Raises:
            ValueError: the shapes disagree, or the grid does not divide the image.
        """
        if prediction.shape != target.shape:
            raise ValueError(
                f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} "
                "must have the same shape (B, C, *spatial)"
            )
        if mask.ndim != target.ndim or mask.shape[:2] != (len(target), 1):
            raise ValueError(
                f"the mask of images {tuple(target.shape)} must be (B, 1, *grid), "
                f"not {tuple(mask.shape)}"
            )
        grid = mask.shape[2:]
        with torch.autocast(target.device.type, enabled=False):
            wide = torch.float64 if prediction.dtype == torch.float64 else torch.float32
            guess, truth = _cells(prediction.to(wide), grid), _cells(target.to(wide), grid)
            axes = _within(grid)
            if self.normalise_patches:
                truth = _normalised(truth, axes)
            error = (guess - truth).square().mean(axes)
            weight = mask[:, 0].to(wide)
            return (error * weight).sum() / weight.sum().clamp(min=1)

    def of_patches(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The same number from the masked patches alone, without the images around them.

        Args:
            prediction: (B, masked, C x voxels of a patch).
            target: of the same shape.

        Raises:
            ValueError: the shapes disagree.
        """
        if prediction.ndim != 3 or prediction.shape != target.shape:
            raise ValueError(
                f"predicted patches {tuple(prediction.shape)} and true ones {tuple(target.shape)} "
                "must both be (B, masked, C x voxels of a patch)"
            )
        with torch.autocast(target.device.type, enabled=False):
            wide = torch.float64 if prediction.dtype == torch.float64 else torch.float32
            guess, truth = prediction.to(wide), target.to(wide)
            if self.normalise_patches:
                truth = _normalised_rows(truth)
            return F.mse_loss(guess, truth, reduction="sum") / max(1, guess.numel())


def normalise_patches(target: Tensor, grid: Sequence[int]) -> Tensor:
    """Every patch minus its mean, divided by its deviation: what `MaskedMSE` then compares with.

    Args:
        target: (B, C, *spatial).
        grid: patches along each axis.

    Returns:
        float (B, C, *spatial).
    """
    return _normalised(_cells(target, grid), _within(grid)).reshape(target.shape)


def denormalise_patches(prediction: Tensor, target: Tensor, grid: Sequence[int]) -> Tensor:
    """A prediction of normalised patches as an image, with the target's mean and deviation a patch.

    Args:
        prediction: (B, C, *spatial), trained with `normalise_patches`.
        target: (B, C, *spatial), the image it is a prediction of.
        grid: cells along each axis.

    Returns:
        (B, C, *spatial), in the target's units.
    """
    mean, std = _statistics(_cells(target, grid), _within(grid))
    return (_cells(prediction, grid) * std + mean).reshape(prediction.shape)


def _cells(image: Tensor, grid: Sequence[int]) -> Tensor:
    """(B, C, *spatial) seen as (B, C, cells, voxels, cells, voxels, ...), one pair an axis."""
    spatial = image.shape[2:]
    if any(s % g for s, g in zip(spatial, grid, strict=True)):
        raise ValueError(
            f"a grid of {tuple(grid)} cells does not divide an image of {tuple(spatial)}"
        )
    return image.reshape(
        *image.shape[:2], *(n for s, g in zip(spatial, grid, strict=True) for n in (g, s // g))
    )


def _within(grid: Sequence[int]) -> tuple[int, ...]:
    """The axes of `_cells` that lie within a patch: the channels and every second one after."""
    return (1, *(3 + 2 * axis for axis in range(len(grid))))


def _normalised(cells: Tensor, axes: tuple[int, ...]) -> Tensor:
    mean, std = _statistics(cells, axes)
    return (cells - mean) / std


def _normalised_rows(patches: Tensor) -> Tensor:
    """What :func:`_normalised` makes of patches in rows (B, n, voxels), much faster."""
    voxels = patches.shape[2]
    # layer norm divides by all voxels where a variance is divided by one less
    factor = (voxels - 1) / voxels
    scaled = F.layer_norm(patches, (voxels,), eps=_EPSILON * factor)
    return scaled.mul_(factor**0.5)


def _statistics(cells: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every patch, ready to broadcast against `cells`."""
    variance, mean = torch.var_mean(cells, axes, keepdim=True)
    return mean, (variance + _EPSILON).sqrt()
