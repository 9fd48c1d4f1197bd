"""What a method is: a typed config, the modules it names, and one step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from medssl.bundle import EncoderSpec, InputContract, OtherSpec
from medssl.config import StrictModel
from medssl.networks import Encoder
from medssl.views import Draw
from medssl.views.view import affine


class MethodConfig(StrictModel):
    """Base of the methods' configs."""

    FROZEN: ClassVar[str] = ""  # the key that holds the path of a bundle, where there is one

    def frozen_bundle(self) -> str | None:
        """The path of the bundle whose frozen weights the method reads; None for most."""
        return getattr(self, self.FROZEN) if self.FROZEN else None

    def with_bundle(self, name: str) -> Self:
        """The same with another name for that bundle: to record it by its weights."""
        return self.model_copy(update={self.FROZEN: name})


@dataclass(frozen=True)
class Samples:
    """What a method is going to be trained on.

    Attributes:
        patch_size: voxels of a view along each axis.
        volumes: how many volumes crops are cut from.
        flat_size: where crops of 3D and 2D come in turn, voxels of a 2D view, ``patch_size`` being
            of 3D; else empty.
        flat_channels: of the 2D crops then.
        plane: of 2D crops of 3D volumes: "axial", "coronal", "sagittal" or, of each, "any".
    """

    patch_size: tuple[int, ...]
    volumes: int = 1
    flat_size: tuple[int, ...] = ()
    flat_channels: int = 1
    plane: str | None = None


@dataclass(frozen=True)
class Crops:
    """A batch of crops, one of a volume each, all of one number of dimensions.

    Attributes:
        image: float32 (B, C, *crop), normalised.
        draw: the random numbers of these samples.
        spacing: mm per voxel and axis, float32 (B, d).
        volume: int64 (B,), the number of the volume, the same in every epoch: 0 to
            ``Samples.volumes`` - 1.
        subject: int64 (B,), the number of its subject, whose volumes show one body.
        place: float32 (B, D, d + 1), voxel of the crop -> mm in its volume, from the outer corner
            of the volume's first voxel along its axes (RAS+). D is 3 for 2D crops of 3D volumes.
        extent: mm of the volume, float32 (B, D).
    """

    image: Tensor
    draw: Draw
    spacing: Tensor
    volume: Tensor
    subject: Tensor
    place: Tensor
    extent: Tensor

    def __len__(self) -> int:
        """Crops in the batch."""
        return len(self.image)

    @classmethod
    def whole(cls, image: Tensor, draw: Draw, spacing: Tensor, volume: Tensor) -> Crops:
        """Crops that are whole volumes, each of a subject of its own."""
        size = torch.tensor(image.shape[2:], device=spacing.device)
        place = torch.cat((torch.diag_embed(spacing), spacing[..., None] / 2), dim=2)
        return cls(image, draw, spacing, volume, volume, place, spacing * size)

    def in_volume(self, points: Tensor) -> Tensor:
        """Where points of the crops lie in their volumes: voxels (B, d, *any) -> mm (B, D, *any),
        as ``place`` counts them. Points of a view come from :meth:`medssl.views.View.to_crop`."""
        return affine(self.place, points)

    def relative(self, points: Tensor) -> Tensor:
        """Where points of the crops lie in their volumes, as shares of the volume's extent: voxels
        (B, d, *any) -> (B, D, *any), 0 to 1 inside, along right, front and up."""
        found = self.in_volume(points)
        return found / self.extent.reshape(*self.extent.shape, *(1,) * (found.ndim - 2))

    def from_relative(self, shares: Tensor) -> Tensor:
        """Where places of the volumes lie in the crops, the inverse of :meth:`relative`: shares of
        the extent (B, D, *any) -> voxels (B, d, *any), which may lie outside. Of a 2D crop of a 3D
        volume it is the nearest point of its plane."""
        flat = shares.flatten(2)
        away = flat * self.extent[:, :, None] - self.place[:, :, -1:]
        # Crops lie along their volumes' axes, so these are at right angles.
        axes = self.place[:, :, :-1]
        along = (axes[..., None] * away[:, :, None]).sum(1) / axes.square().sum(1)[..., None]
        return along.reshape(len(along), -1, *shares.shape[2:])

    def take(self, rows: Tensor) -> Crops:
        """Some of the crops, or all in another order; ``rows`` int64 (N,)."""
        parts = (self.spacing, self.volume, self.subject, self.place, self.extent)
        draw = Draw(self.draw.keys[rows], self.draw.stream)
        return Crops(self.image[rows], draw, *(part[rows] for part in parts))

    def centre(self) -> Tensor:
        """The crops' centres as :meth:`relative` has them: float32 (B, D)."""
        size = torch.tensor(self.image.shape[2:], device=self.place.device)
        middle = ((size - 1) / 2).expand(len(self), -1)
        return self.relative(middle[..., None])[..., 0]

    def inside(self) -> tuple[Tensor, Tensor]:
        """The part of the crops that shows their volumes, and not what they were padded with: its
        first and last edge along each axis, in voxels of the crop, float32 (B, d) each. Voxel 0
        reaches from -0.5 to 0.5.
        """
        step, start = self.place[:, :, :-1], self.place[:, :, -1:]
        # Axes are parallel: each of the crop meets the two ends of one of the volume.
        ends = torch.stack((-start / step, (self.extent[..., None] - start) / step))
        across = (step == 0).expand_as(ends)
        low = ends.masked_fill(across, -torch.inf).amin(0).amax(1)
        high = ends.masked_fill(across, torch.inf).amax(0).amin(1)
        size = torch.tensor(self.image.shape[2:]).to(low.device, non_blocking=True)
        return low.clamp(min=-0.5), torch.minimum(high, size - 0.5)


@dataclass
class Step:
    """What one step gives: the loss to follow, and what a run is watched by.

    Attributes:
        loss: scalar.
        logs: scalars to log, on the device.
        embedding: (B, D), the features that the encoder gives these samples.
        positives: two (B, D) that the loss wants alike, row by row, of distinct views.
        teacher_probs: (B, K), what a teacher gives each sample over K prototypes; rows add up to 1.
        trivial_loss: the loss of a network that gives every sample the same, where that is known;
            a scalar on the device where it depends on the samples.
    """

    loss: Tensor
    logs: dict[str, Tensor] = field(default_factory=dict)
    embedding: Tensor | None = None
    positives: tuple[Tensor, Tensor] | None = None
    teacher_probs: Tensor | None = None
    trivial_loss: float | Tensor | None = None


class Method(nn.Module):
    """A self-supervised method.

    A subclass names its modules in ``__init__`` (the encoder as ``self.encoder``; what should be
    transferred to fine-tuning under the names of :class:`medssl.networks.Segmenter`) and computes
    one step. Optimiser, schedule, logging and data are elsewhere and the same for all.

    Attributes:
        number: of the step that is being computed, from 0; set by the loop.
        progress: how much of the run is done before that step, from 0 to below 1; set by the loop.
        bands: the axis of the volumes, and into how many equal parts a method divides it; None
            where it divides nothing. A run draws them.
        both: whether it can be trained on crops of 3D and 2D in turn (``Samples.flat_size``), each
            step on one kind. Its encoder is the 3D one then, and every step gives all trained
            parameters a gradient (:func:`idle`).
    """

    Config: ClassVar[type[MethodConfig]]
    both: ClassVar[bool] = False
    bands: tuple[int, int] | None = None

    def __init__(self, config: Any, encoder: Encoder, samples: Samples) -> None:
        super().__init__()
        self.number, self.progress = 0, 0.0

    @classmethod
    def encoder_for(cls, asked: EncoderSpec) -> EncoderSpec:
        """The encoder that the method trains where this one is asked for."""
        return asked

    def other_spec(
        self, encoder: EncoderSpec, contract: InputContract, flat: InputContract | None
    ) -> OtherSpec | None:
        """What a bundle says of the encoder for the other number of dimensions, where there is one;
        :meth:`bundle_state` then has its weights, ``other.encoder.*``.

        Args:
            encoder, contract: of the bundle.
            flat: of the 2D crops, where crops of both were trained on.
        """
        return None

    def step(self, crops: Crops) -> Step:
        """The loss of a batch of crops."""
        raise TypeError(f"{type(self).__name__} defines no step")

    def after_update(self, progress: float) -> None:
        """Called after each optimiser step, for teachers; ``progress`` ends at 1."""

    def views(self, crops: Crops) -> list[Tensor]:
        """The views that :meth:`step` makes of these crops, each (B, C, *size)."""
        raise TypeError(f"{type(self).__name__} defines no views")

    def preview(self, crops: Crops) -> dict[str, Tensor]:
        """Named images (B, C, *size) that show what the method sees and does."""
        raise TypeError(f"{type(self).__name__} defines no preview")

    def bundle_state(self) -> dict[str, Tensor]:
        """The weights a bundle carries: the encoder's, and a decoder's where there is one."""
        prefixes = ("encoder.", "decoder.")
        return {k: v for k, v in self.state_dict().items() if k.startswith(prefixes)}

    def bundle_parts(self) -> dict[str, Any]:
        """What the bundle's architecture says beside the encoder, by its name there."""
        return {}


def idle(*modules: nn.Module) -> Tensor:
    """0, with a gradient of zeros for what is trained of these modules: what a step does not use.
    Several processes wait for the gradient of every parameter in every step (DDP)."""
    used = [p.flatten()[0] for m in modules for p in m.parameters() if p.requires_grad]
    return 0.0 * torch.stack(used).sum() if used else torch.zeros(())
