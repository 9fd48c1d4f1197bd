"""What a method is: a typed config, the modules it names, and one step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from medssl.config import StrictModel
from medssl.methods.intensity_config import IntensityConfig
from medssl.networks import Encoder
from medssl.views import Draw, SpatialSettings, ViewSettings


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


class MethodConfig(StrictModel):
    """Base of the methods' configs."""


@dataclass
class Step:
    """What one step gives: the loss to follow, and what a run is watched by.

    Attributes:
        loss: scalar.
        logs: scalars to log, on the device.
        embedding: (B, D), the features that the encoder gives these samples.
        positives: two (B, D) that the loss wants alike, row by row, of distinct views.
        teacher_probs: (B, K), what a teacher gives each sample over K prototypes; rows add up to 1.
        trivial_loss: the loss of a network that gives every sample the same, where that is a number
            known beforehand.
    """

    loss: Tensor
    logs: dict[str, Tensor] = field(default_factory=dict)
    embedding: Tensor | None = None
    positives: tuple[Tensor, Tensor] | None = None
    teacher_probs: Tensor | None = None
    trivial_loss: float | None = None


class Method(nn.Module):
    """A self-supervised method.

    A subclass names its modules in ``__init__`` (the encoder as ``self.encoder``; what should be
    transferred to fine-tuning under the names of :class:`medssl.networks.Segmenter`) and computes
    one step. Optimiser, schedule, logging and data are elsewhere and the same for all.
    """

    Config: ClassVar[type[MethodConfig]]

    def __init__(self, config: Any, encoder: Encoder, patch_size: Sequence[int]) -> None:
        super().__init__()

    def step(self, crops: Tensor, draw: Draw, spacing: Tensor) -> Step:
        """The loss of a batch of crops.

        Args:
            crops: float32 (B, C, *crop), normalised.
            draw: the random numbers of these samples.
            spacing: mm per voxel and axis, float32 (B, d).
        """
        raise TypeError(f"{type(self).__name__} defines no step")

    def after_update(self, progress: float) -> None:
        """Called after each optimiser step, for teachers; ``progress`` ends at 1."""

    def views(self, crops: Tensor, draw: Draw, spacing: Tensor) -> list[Tensor]:
        """The views that :meth:`step` makes of these crops, each (B, C, *patch)."""
        raise TypeError(f"{type(self).__name__} defines no views")

    def preview(self, crops: Tensor, draw: Draw, spacing: Tensor) -> dict[str, Tensor]:
        """Named images (B, C, *patch) that show what the method sees and does."""
        raise TypeError(f"{type(self).__name__} defines no preview")

    def bundle_state(self) -> dict[str, Tensor]:
        """The weights a bundle carries: the encoder's, and a decoder's where there is one."""
        prefixes = ("encoder.", "decoder.")
        return {k: v for k, v in self.state_dict().items() if k.startswith(prefixes)}
