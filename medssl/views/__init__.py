"""Batched, on-device augmentation and masking; drawing parameters is apart from applying them."""

from __future__ import annotations

from medssl.views.corrupt import corrupt
from medssl.views.draw import Draw, sample_key
from medssl.views.intensity import IntensityParams, IntensitySettings
from medssl.views.masks import (
    block_mask,
    channel_mask,
    inverse_block_mask,
    masked_count,
    random_mask,
    upsample_mask,
)
from medssl.views.pipeline import View, ViewSettings, make_view
from medssl.views.spatial import SpatialParams, SpatialSettings, resample, view_to_crop
from medssl.views.window import jitter_normalisation

__all__ = [
    "Draw",
    "IntensityParams",
    "IntensitySettings",
    "SpatialParams",
    "SpatialSettings",
    "View",
    "ViewSettings",
    "block_mask",
    "channel_mask",
    "corrupt",
    "inverse_block_mask",
    "jitter_normalisation",
    "make_view",
    "masked_count",
    "random_mask",
    "resample",
    "sample_key",
    "upsample_mask",
    "view_to_crop",
]
