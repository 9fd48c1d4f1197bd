"""Artefacts of MR acquisition: what goes wrong in k-space, seen in the image."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from medssl.views.change import (
    Change,
    each,
    moments,
    on_picked,
    one_of,
    per_sample,
    signal_zero,
)
from medssl.views.resampling import resample
from medssl.views.smooth import along

_KEPT = 0.02  # of the lines of k-space, about its centre, keep their size under ghosting


@dataclass(frozen=True)
class Ghost(Change):
    """Copies displaced along one axis: every n-th line of k-space is weaker (as in TorchIO).

    Attributes:
        strength: what those lines lose, float32 (B,), 0 (none) to 1.
        number: of copies, and so the distance of those lines, int64 (B,).
        axis: float32 (B,) in [0, 1), along which axis.
    """

    strength: Tensor
    number: Tensor
    axis: Tensor

    def apply(self, batch: Tensor, spacing: Tensor | None) -> Tensor:
        """See `Change.apply`."""
        dims = batch.ndim - 2
        chosen = one_of(self.axis, dims)
        for axis in range(dims):
            length = batch.shape[2 + axis]

            def change(
                part: Tensor, strength: Tensor, number: Tensor, n: int = length, at: int = axis
            ) -> Tensor:
                return along(part, ghost_matrix(strength, number, n), at)

            picked = (chosen == axis) & (self.strength > 0)
            batch = on_picked(picked, change, batch, self.strength, self.number)
        return batch


def ghost_matrix(strength: Tensor, number: Tensor, length: int) -> Tensor:
    """What weaker lines of k-space do to a line of voxels: circulant, float32 (B, n, n)."""
    line = torch.arange(length // 2 + 1, device=strength.device)  # the other half mirrors it
    weaker = (line % number[:, None] == 0) & (line > max(_KEPT * length, 0.5))
    gain = (1.0 - strength[:, None] * weaker).to(torch.complex64)
    kernel: Tensor = torch.fft.irfft(gain, n=length)
    place = torch.arange(length, device=strength.device)
    lag = torch.remainder(place[:, None] - place, length)
    return kernel.index_select(1, lag.flatten()).reshape(-1, length, length)


@dataclass(frozen=True)
class Spike(Change):
    """Stripes: one wrong sample of k-space, which is one plane wave in the image.

    Attributes:
        strength: amplitude of the wave in standard deviations of the image, float32 (B,).
        frequency: of the wave, from -1 to 1 of the highest there is, float32 (B, 3).
        phase: radians, float32 (B,).
    """

    strength: Tensor
    frequency: Tensor
    phase: Tensor

    def apply(self, batch: Tensor, spacing: Tensor | None) -> Tensor:
        """See `Change.apply`."""
        values = (self.strength, self.frequency, self.phase)
        return on_picked(self.strength > 0, add_spike, batch, *values)


def add_spike(batch: Tensor, strength: Tensor, frequency: Tensor, phase: Tensor) -> Tensor:
    """One plane wave on every sample; see `Spike`."""
    angle = each(phase, batch)
    for axis, length in enumerate(batch.shape[2:]):
        cycles = (frequency[:, axis] * (length // 2)).round()  # a whole number: one sample's wave
        steps = torch.arange(length, device=batch.device) * (2.0 * math.pi / length)
        shape = [1] * batch.ndim
        shape[2 + axis] = length
        angle = angle + each(cycles, batch) * steps.reshape(shape)
    return torch.addcmul(batch, angle.cos(), each(strength, batch) * moments(batch)[1])


@dataclass(frozen=True)
class Motion(Change):
    """The subject lies elsewhere while the first and the last lines of k-space are read.

    It lies still while the lines about the centre are read, which fix where the image is seen; so
    label maps and positions stay true (after Shaw et al. 2019, "MRI k-space motion artefact
    augmentation"). The image is the magnitude of what was read.

    Attributes:
        picked: bool (B,).
        angles: radians, float32 (B, 2, 3): before and after, about each axis; the last in 2D.
        shift: float32 (B, 2, 3), in voxels or mm.
        in_mm: the unit of `shift`.
        ends: float32 (B, 2): where in k-space, from 0 to 1, it comes to rest and moves again.
        axis: float32 (B,) in [0, 1), along which the lines follow one another.
    """

    picked: Tensor
    angles: Tensor
    shift: Tensor
    in_mm: bool
    ends: Tensor
    axis: Tensor

    def apply(self, batch: Tensor, spacing: Tensor | None) -> Tensor:
        """See `Change.apply`."""
        dims = batch.ndim - 2
        mm = per_sample(spacing, batch)
        shift = self.shift[..., :dims]
        if self.in_mm:
            shift = shift / mm[:, None]
        values = (self.angles, shift, mm, self.ends, one_of(self.axis, dims))
        return on_picked(self.picked, add_motion, batch, *values)


def add_motion(
    batch: Tensor, angles: Tensor, shift: Tensor, spacing: Tensor, ends: Tensor, axis: Tensor
) -> Tensor:
    """Lines of k-space from three poses in every sample.

    Args:
        batch: float32 (B, C, *spatial).
        angles: (B, 2, 3), see `Motion`.
        shift: voxels, (B, 2, d).
        spacing: mm, (B, d); a rotation is rigid in mm.
        ends: (B, 2).
        axis: int64 (B,).
    """
    size, axes = batch.shape[2:], tuple(range(2, batch.ndim))
    zero = signal_zero(batch)
    signal = batch - zero
    place = torch.zeros((), device=batch.device)
    for number, length in enumerate(size):
        # Where each line lies, from 0 to 1, with the lowest frequencies in the middle.
        line = torch.fft.fftfreq(length, device=batch.device) + 0.5
        shape = [1] * batch.ndim
        shape[2 + number] = length
        place = torch.where(each(axis == number, batch), line.reshape(shape), place)
    lines = torch.fft.fftn(signal, dim=axes)
    for pose in range(2):
        matrix = rigid(angles[:, pose], shift[:, pose], spacing, size)
        moved = torch.fft.fftn(resample(signal, matrix, size), dim=axes)
        end = each(ends[:, pose], batch)
        lines = torch.where(place < end if pose == 0 else place > end, moved, lines)
    magnitude: Tensor = torch.fft.ifftn(lines, dim=axes).abs()
    return magnitude.add_(zero)


def rigid(angles: Tensor, shift: Tensor, spacing: Tensor, size: torch.Size) -> Tensor:
    """A rotation about the image's centre and a shift, voxel to voxel: float32 (B, d, d + 1)."""
    dims = len(size)
    planes = [(0, 1)] if dims == 2 else [(1, 2), (2, 0), (0, 1)]
    turn = torch.eye(dims, device=angles.device).expand(len(angles), dims, dims)
    for number, (first, second) in enumerate(planes):
        cosine, sine = angles[:, number].cos(), angles[:, number].sin()
        step = torch.eye(dims, device=angles.device).repeat(len(angles), 1, 1)
        step[:, first, first] = step[:, second, second] = cosine
        step[:, first, second], step[:, second, first] = -sine, sine
        turn = step @ turn
    turn = turn * (spacing[:, None, :] / spacing[:, :, None])
    middle = torch.stack([torch.full_like(shift[:, 0], (length - 1) / 2) for length in size], 1)
    offset = middle - (turn @ middle[..., None])[..., 0] + shift
    return torch.cat((turn, offset[..., None]), dim=2)
