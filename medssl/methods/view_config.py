"""How a view is drawn from a crop, as a config says it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from medssl.methods.intensity_config import IntensityConfig
from medssl.views import SpatialSettings, ViewSettings


class ViewConfig(IntensityConfig):
    """How a view is drawn from a crop; each range is drawn anew for every sample and view.

    The changes of place, composed into one resampling; and the changes of intensity.
    """

    rotation: float = Field(
        0.0, ge=0, description="largest angle in degrees about each axis, rigid in mm"
    )
    scale: tuple[float, float] = Field((1.0, 1.0), description="range of the magnification")
    scale_each_axis: bool = Field(False, description="every axis its own magnification")
    shear: float = Field(0.0, ge=0, lt=45, description="largest angle in degrees")
    elastic: float = Field(
        0.0, ge=0, description="largest displacement of a smooth warp along each axis, in mm"
    )
    elastic_cells: int = Field(4, ge=1, description="how fine the warp is: cells along each axis")
    spatial_probability: float = Field(
        1.0, ge=0, le=1, description="of rotation, magnification, shear and warp, each"
    )
    crop_scale: tuple[float, float] | None = Field(
        None,
        description="range of the share of the crop's volume that fills a view; "
        "null keeps the voxel size",
    )
    aspect: float = Field(
        1.0, ge=1, description="with `crop_scale`, how far an axis may be stretched against another"
    )
    flip_axes: tuple[int, ...] = Field((), description="spatial axes that may be mirrored")
    padding: Literal["border", "zeros", "reflection"] = Field(
        "border", description="what lies outside the crop"
    )

    def settings(self) -> ViewSettings:
        """The same as the views room takes it."""
        spatial = SpatialSettings(
            rotation=self.rotation,
            scale=self.scale,
            scale_each_axis=self.scale_each_axis,
            shear=self.shear,
            elastic=self.elastic,
            elastic_cells=self.elastic_cells,
            probability=self.spatial_probability,
            crop_scale=self.crop_scale,
            aspect=self.aspect,
            flip_axes=self.flip_axes,
            padding=self.padding,
        )
        return ViewSettings(spatial, self.intensity_settings())
