"""Intensity augmentation of a batch, on its device."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from medssl.views.draw import Draw


@dataclass(frozen=True)
class IntensitySettings:
    """How far a view may differ in intensity from its crop. The defaults change nothing.

    Deviations are relative to the standard deviation of the image, so that the settings suit
    z-scores and fixed ranges alike.

    Attributes:
        probability: of each change in each view, independently.
        contrast: smallest and largest factor on the distance from the mean.
        brightness: largest shift, in standard deviations.
        gamma: smallest and largest exponent on the image scaled to [0, 1], even in its logarithm.
        noise: largest standard deviation of Gaussian noise, in standard deviations of the image.
        blur: smallest and largest sigma of a Gaussian blur, in voxels.
        low_resolution: smallest and largest factor (at least 1) by which the grid is made coarser
            before it is interpolated back.
    """

    probability: float = 0.5
    contrast: tuple[float, float] | None = None
    brightness: float = 0.0
    gamma: tuple[float, float] | None = None
    noise: float = 0.0
    blur: tuple[float, float] | None = None
    low_resolution: tuple[float, float] | None = None


@dataclass(frozen=True)
class IntensityParams:
    """What was drawn for a batch of B views: float32 (B,) each, None where nothing is asked.

    A sample that a change leaves alone has its neutral value (factor 1, shift or sigma 0).

    Attributes:
        contrast: factor.
        brightness: shift in standard deviations.
        gamma: exponent.
        noise: standard deviation over that of the image.
        noise_draw: where the noise comes from.
        blur: sigma in voxels.
        blur_radius: voxels of the kernel to each side.
        low_resolution: factor.
    """

    contrast: Tensor | None
    brightness: Tensor | None
    gamma: Tensor | None
    noise: Tensor | None
    noise_draw: Draw
    blur: Tensor | None
    blur_radius: int
    low_resolution: Tensor | None

    @classmethod
    def draw(cls, draw: Draw, settings: IntensitySettings) -> IntensityParams:
        """Draws for every sample of `draw`; each part has its own stream."""

        def pick(stream: int, span: tuple[float, float] | None, neutral: float) -> Tensor | None:
            if span is None or span == (neutral, neutral):
                return None
            own = draw.fork(stream)
            # A change on a sample that is not picked must cost no wait for the device: `where`.
            return torch.where(own.bernoulli(settings.probability), own.uniform(*span), neutral)

        gamma = settings.gamma and (math.log(settings.gamma[0]), math.log(settings.gamma[1]))
        log_gamma = pick(2, gamma, 0.0)
        return cls(
            contrast=pick(0, settings.contrast, 1.0),
            brightness=pick(1, (-settings.brightness, settings.brightness), 0.0),
            gamma=None if log_gamma is None else log_gamma.exp(),
            noise=pick(3, (0.0, settings.noise), 0.0),
            noise_draw=draw.fork(4),
            blur=pick(5, settings.blur, 0.0),
            blur_radius=math.ceil(3 * settings.blur[1]) if settings.blur else 0,
            low_resolution=pick(6, settings.low_resolution, 1.0),
        )

    def apply(self, batch: Tensor) -> Tensor:
        """Float32 (B, C, *spatial) -> the same shape; applying twice gives the same result."""
        if self.low_resolution is not None:
            batch = coarsen(batch, self.low_resolution)
        if self.blur is not None:
            batch = gaussian_blur(batch, self.blur, self.blur_radius)
        if self.contrast is not None or self.brightness is not None:
            batch = self._rescale(batch)
        if self.gamma is not None:
            batch = _gamma(batch, self.gamma)
        if self.noise is not None:
            deviation = _spread(batch)[1]
            drawn = Draw(self.noise_draw.keys, self.noise_draw.stream).normal(*batch.shape[1:])
            batch = torch.addcmul(batch, drawn, _each(self.noise, batch) * deviation)
        return batch

    def _rescale(self, batch: Tensor) -> Tensor:
        mean, deviation = _spread(batch)
        factor = torch.ones_like(mean)
        if self.contrast is not None:
            factor = _each(self.contrast, batch)
        shift = mean * (1.0 - factor)
        if self.brightness is not None:
            shift = shift + _each(self.brightness, batch) * deviation
        return torch.addcmul(shift, batch, factor)


def _each(values: Tensor, batch: Tensor) -> Tensor:
    """(B,) ready to broadcast against the batch."""
    return values.reshape(-1, *(1,) * (batch.ndim - 1))


def _spread(batch: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every channel of every sample, (B, C, 1, ...)."""
    axes = tuple(range(2, batch.ndim))
    mean = batch.mean(axes, keepdim=True)
    power = torch.linalg.vector_norm(batch - mean, 2, axes, keepdim=True)
    return mean, power / math.sqrt(math.prod(batch.shape[2:]))


def _gamma(batch: Tensor, gamma: Tensor) -> Tensor:
    """x -> low + range * ((x - low) / range)^gamma, channel by channel."""
    axes = tuple(range(2, batch.ndim))
    low, high = batch.amin(axes, keepdim=True), batch.amax(axes, keepdim=True)
    extent = (high - low).clamp(min=1e-6)
    unit = ((batch - low) / extent).clamp_(0.0, 1.0)
    return torch.addcmul(low, unit.pow_(_each(gamma, batch)), extent)


def gaussian_blur(batch: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Gaussian blur with one sigma a sample, axis by axis; the edge voxel is repeated outside.

    Args:
        batch: float32 (B, C, *spatial).
        sigma: voxels, (B,); 0 leaves a sample as it is.
        radius: voxels of the kernel to each side; three sigma lose less than 0.3 %.
    """
    steps = torch.arange(1, radius + 1, device=batch.device)
    side = torch.exp(-0.5 * (steps / sigma.clamp(min=1e-4)[:, None]).square())  # (B, radius)
    middle = 1.0 / (1.0 + 2.0 * side.sum(1))
    weights = side * middle[:, None]
    for axis in range(2, batch.ndim):
        length = batch.shape[axis]
        first = batch.narrow(axis, 0, 1).expand(_with(batch, axis, radius))
        last = batch.narrow(axis, length - 1, 1).expand(_with(batch, axis, radius))
        padded = torch.cat((first, batch, last), dim=axis)
        result = batch * _each(middle, batch)
        for step in range(1, radius + 1):
            ends = padded.narrow(axis, radius - step, length) + padded.narrow(
                axis, radius + step, length
            )
            result.addcmul_(ends, _each(weights[:, step - 1], batch))
        batch = result
    return batch


def _with(batch: Tensor, axis: int, length: int) -> list[int]:
    """The shape of the batch with another length along one axis."""
    shape = list(batch.shape)
    shape[axis] = length
    return shape


def coarsen(batch: Tensor, factor: Tensor) -> Tensor:
    """As if scanned on a grid coarser by `factor` and interpolated back, axis by axis.

    Args:
        batch: float32 (B, C, *spatial).
        factor: (B,), at least 1; 1 leaves a sample as it is. The coarse grid takes the nearest
            voxel; between its voxels the result is linear.
    """
    for axis in range(2, batch.ndim):
        batch = _coarsen_axis(batch, factor[:, None], axis)
    return batch


def _coarsen_axis(batch: Tensor, factor: Tensor, axis: int) -> Tensor:
    length = batch.shape[axis]
    along = [len(batch), *(1,) * (batch.ndim - 1)]
    along[axis] = length
    place = (torch.arange(length, device=batch.device) + 0.5) / factor - 0.5  # in coarse voxels
    below = place.floor()

    def read(coarse: Tensor) -> Tensor:
        index = ((coarse + 0.5) * factor - 0.5).round().clamp(0, length - 1).long()
        return batch.gather(axis, index.reshape(along).expand(batch.shape))

    return torch.lerp(read(below), read(below + 1), (place - below).reshape(along))
