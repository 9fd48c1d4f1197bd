"""Batched, on-device augmentation and masking; drawing parameters is apart from applying them."""

from __future__ import annotations

from medssl.views.corrupt import corrupt
from medssl.views.draw import Draw, sample_key
from medssl.views.intensity import IntensityParams, IntensitySettings
from medssl.views.masks import (
    block_mask,
    box_mask,
    channel_mask,
    inverse_block_mask,
    masked_count,
    random_mask,
    upsample_mask,
)
from medssl.views.pipeline import ViewPlan, ViewSettings, make_view, make_views, view_draw
from medssl.views.resampling import resample
from medssl.views.spatial import SpatialParams, SpatialSettings, view_to_crop
from medssl.views.view import (
    Match,
    View,
    cell_positions,
    in_crop,
    in_mm,
    in_volume,
    match_cells,
    match_points,
    overlap,
    positions,
)
from medssl.views.window import jitter_normalisation

__all__ = [
    "Draw",
    "IntensityParams",
    "IntensitySettings",
    "Match",
    "SpatialParams",
    "SpatialSettings",
    "View",
    "ViewPlan",
    "ViewSettings",
    "block_mask",
    "box_mask",
    "cell_positions",
    "channel_mask",
    "corrupt",
    "in_crop",
    "in_mm",
    "in_volume",
    "inverse_block_mask",
    "jitter_normalisation",
    "make_view",
    "make_views",
    "masked_count",
    "match_cells",
    "match_points",
    "overlap",
    "positions",
    "random_mask",
    "resample",
    "sample_key",
    "upsample_mask",
    "view_draw",
    "view_to_crop",
]
