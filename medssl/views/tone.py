"""Changes of single voxels: contrast, brightness, gamma, noise."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medssl.views.change import Change, each, moments, on_picked, signal_zero
from medssl.views.draw import Draw

_LEAST = 1e-18  # keeps the logarithm finite, and powers up to 2 clear of slow denormal numbers


@dataclass(frozen=True)
class Tone(Change):
    """Contrast and brightness, then gamma, then noise.

    A sample that a part leaves alone has its neutral value; a part that is None is not asked for.
    Brightness and noise are in standard deviations that each channel has before all of this.

    Attributes:
        contrast: factor on the distance from the mean, float32 (B,).
        brightness: shift, float32 (B,).
        gamma: exponent on the image scaled to [0, 1], float32 (B,).
        inverted: bool (B,), whether gamma bends the inverted image.
        noise: standard deviation of the noise, float32 (B,).
        keys: int64 (B,), whose `noise_stream` the noise comes from.
        noise_stream: a stream of `keys`.
        rician: the noise of a magnitude image (Gudbjartsson and Patz 1995) rather than Gaussian.
    """

    contrast: Tensor | None
    brightness: Tensor | None
    gamma: Tensor | None
    inverted: Tensor
    noise: Tensor | None
    keys: Tensor
    noise_stream: int
    rician: bool

    def apply(self, batch: Tensor, spacing: Tensor | None) -> Tensor:
        """See `Change.apply`."""
        mean = deviation = torch.empty(0)
        if not (self.contrast is None and self.brightness is None and self.noise is None):
            mean, deviation = moments(batch)
        if self.contrast is not None or self.brightness is not None:
            batch = self._rescale(batch, mean, deviation)
        if self.gamma is not None:
            batch = on_picked(self.gamma != 1.0, bend, batch, self.gamma, self.inverted)
        if self.noise is not None:
            amount = each(self.noise, batch) * deviation
            batch = on_picked(self.noise > 0.0, self._add_noise, batch, amount, self.keys)
        return batch

    def _rescale(self, batch: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
        factor = torch.ones_like(mean)
        if self.contrast is not None:
            factor = each(self.contrast, batch)
        shift = mean * (1.0 - factor)
        if self.brightness is not None:
            shift = shift + each(self.brightness, batch) * deviation
        into = batch if batch.device.type == "cpu" else None
        return torch.addcmul(shift, batch, factor, out=into)

    def _add_noise(self, batch: Tensor, amount: Tensor, keys: Tensor) -> Tensor:
        draw = Draw(keys, self.noise_stream)
        noisy = torch.addcmul(batch, draw.normal(*batch.shape[1:]), amount)
        if not self.rician:
            return noisy
        zero = signal_zero(batch)
        other = draw.normal(*batch.shape[1:]).mul_(amount)
        return noisy.sub_(zero).square_().addcmul_(other, other).sqrt_().add_(zero)


def bend(batch: Tensor, gamma: Tensor, inverted: Tensor) -> Tensor:
    """x -> low + range * ((x - low) / range)^gamma, channel by channel.

    Args:
        batch: float32 (B, C, *spatial).
        gamma: above 0, float32 (B,).
        inverted: bool (B,); where True the same is done to the negative image.
    """
    axes = tuple(range(2, batch.ndim))
    low, high = batch.amin(axes, keepdim=True), batch.amax(axes, keepdim=True)
    turned = each(inverted, batch)
    start = torch.where(turned, high, low)
    extent = torch.where(turned, low - high, high - low)
    # x^g as exp(g log x) is twice as fast; a flat image has no extent to divide by.
    unit = (batch - start).div_(extent.where(extent != 0, 1.0)).clamp_(_LEAST, 1.0)
    bent = unit.log_().mul_(each(gamma, batch)).exp_()
    return torch.addcmul(start, bent, extent)
