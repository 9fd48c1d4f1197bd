"""Cutting a volume into windows of the patch size."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from torch import Tensor
from torch.nn import functional as F


def pad_to_patch(image: Tensor, patch_size: Sequence[int]) -> Tensor:
    """Zeros around (channel, *spatial) until it holds one patch, half on each side."""
    pads: list[int] = []
    for before, after in reversed(padding(image.shape[1:], patch_size)):
        pads += [before, after]
    return F.pad(image, pads)


def padding(size: Sequence[int], patch_size: Sequence[int]) -> list[tuple[int, int]]:
    """Voxels that :func:`pad_to_patch` puts before and after each axis."""
    missing = [max(0, patch - n) for n, patch in zip(size, patch_size, strict=True)]
    return [(m // 2, m - m // 2) for m in missing]


def window_starts(
    size: Sequence[int], patch_size: Sequence[int], overlap: float
) -> list[tuple[int, ...]]:
    """First voxels of windows that cover a grid, evenly spread along each axis.

    Args:
        size: voxels per axis, none below the patch size.
        patch_size: voxels of a window.
        overlap: the share of a window that the next one covers again at least, in [0, 1).
    """
    axes = []
    for n, patch in zip(size, patch_size, strict=True):
        count = 1 + int(np.ceil((n - patch) / max(1, round(patch * (1 - overlap)))))
        axes.append([int(s) for s in np.linspace(0, n - patch, count).round()])
    return list(product(*axes))


def cut(image: Tensor, start: Sequence[int], patch_size: Sequence[int]) -> Tensor:
    """The window of (channel, *spatial) that begins at ``start``."""
    spatial = tuple(slice(s, s + n) for s, n in zip(start, patch_size, strict=True))
    return image[(slice(None), *spatial)]
