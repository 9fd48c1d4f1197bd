"""How a run takes its crops: the keys of its configuration, and the source they make."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import Field

from medssl.config import StrictModel
from medssl.errors import MedsslError
from medssl.store import Store
from medssl.store.intensity import IntensityContract
from medssl.training.cache import CacheSettings
from medssl.training.cache_plan import cache_plan
from medssl.training.crops import Plane, Shape
from medssl.training.data import CropSource

FOLDER_VARIABLE, LIMIT_VARIABLE = "MEDSSL_CACHE", "MEDSSL_CACHE_GB"
DEFAULT_FOLDER = "medssl-cache"


class CropConfig(StrictModel):
    """Which crops a run sees. Where a cache lies and what it may take are no part of it: they are
    the environment's, ``MEDSSL_CACHE`` (by default ``medssl-cache`` beside OUT) and
    ``MEDSSL_CACHE_GB``."""

    patch_size: list[int] | None = None
    spacing: list[float] | None = Field(
        None, description="mm that crops are resampled to; the volumes' own where not given"
    )
    crop_mm: list[float] | None = Field(
        None, description="instead of spacing: what a crop spans, in mm; the same of every volume"
    )
    intensity: IntensityContract | None = None
    plane: Literal["axial", "coronal", "sagittal", "any"] | None = Field(
        None, description="2D crops of 3D volumes, in this plane"
    )
    foreground: float = Field(
        0.0, ge=0, le=1, description="share of crops with a bright voxel in their middle"
    )
    balance: list[str] = Field(
        default_factory=list,
        description="columns of the manifest, or labels: volumes alike in them are a group, and "
        "groups come equally often",
    )
    share_turns: bool = Field(
        True, description="volumes of one series (times, echoes) come as often together as one"
    )
    dtype: Literal["float16", "float32"] | None = Field(
        None, description="of crops on their way to the device; as stored where not given"
    )
    cache: Literal["auto", "off", "raw", "compressed"] = Field(
        "auto", description="keep volumes resampled and cut to their foreground"
    )


def in_planes(shapes: Sequence[Sequence[int]], plane: str | None) -> list[list[int]]:
    """The shapes that crops are taken from: those of the volumes, or of their planes, which are
    rows and columns."""
    if plane is None:
        return [list(shape) for shape in shapes]
    planes = Shape((), plane=cast(Plane, plane)).planes()
    return [[shape[axis] for axis in axes[1:]] for shape in shapes for axes in planes if axes]


def resolved_crops(
    store: Store, config: CropConfig, volume_ids: Sequence[str], dims: int
) -> dict[str, Any]:
    """What a configuration leaves open: spacing where crops are given in mm, and the cache.

    Args:
        store: where the volumes are.
        config: with patch size and intensity.
        volume_ids: which of them.
        dims: of the crops.

    Raises:
        MedsslError: CONFIG_INVALID.
    """
    patch = config.patch_size or []
    for name, values in (("patch_size", patch), ("spacing", config.spacing)):
        if values is not None and len(values) != dims:
            raise MedsslError("CONFIG_INVALID", f"It has {dims} values here", where=name)
    spacing = config.spacing
    if config.crop_mm is not None:
        if spacing is not None or len(config.crop_mm) != dims:
            text = f"It has {dims} values here, and none where spacing is given"
            raise MedsslError("CONFIG_INVALID", text, where="crop_mm")
        spacing = [extent / n for extent, n in zip(config.crop_mm, patch, strict=True)]
    plan = cache_plan(
        store,
        volume_ids,
        patch,
        config.intensity or IntensityContract(),
        spacing=spacing,
        plane=config.plane,
        dtype=config.dtype,
        cache=config.cache,
    )
    return {"spacing": spacing, "crop_mm": None, "cache": plan.choice}


def cache_settings(layout: str, beside: Path) -> CacheSettings | None:
    """Where the cache of a run is, by the environment, else beside the run.

    Args:
        layout: "off", "raw" or "compressed".
        beside: the run's folder.

    Raises:
        MedsslError: CONFIG_INVALID where the limit is no number.
    """
    if layout == "off":
        return None
    folder = os.environ.get(FOLDER_VARIABLE)
    limit = os.environ.get(LIMIT_VARIABLE)
    try:
        most = None if not limit else round(float(limit) * 2**30)
    except ValueError:
        raise MedsslError(
            "CONFIG_INVALID", "The limit is no number of GiB", where=LIMIT_VARIABLE
        ) from None
    return CacheSettings(
        Path(folder) if folder else beside.parent / DEFAULT_FOLDER,
        "compressed" if layout == "compressed" else "raw",
        most,
    )


def crop_source(
    store: Store, volume_ids: Sequence[str], config: CropConfig, seed: int, out: Path
) -> CropSource:
    """The crops of a resolved configuration.

    Args:
        store: where the volumes are.
        volume_ids: which of them.
        config: with patch size, intensity and cache resolved.
        seed: of order and place.
        out: the run's folder.

    Raises:
        MedsslError: as :class:`CropSource`.
    """
    return CropSource(
        store,
        volume_ids,
        config.patch_size or [],
        config.intensity or IntensityContract(),
        seed,
        spacing=config.spacing,
        foreground=config.foreground,
        balance=config.balance,
        share_turns=config.share_turns,
        plane=config.plane,
        dtype=config.dtype,
        cache=cache_settings(config.cache, out),
    )
