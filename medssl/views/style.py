"""Exchange of style between the images of a batch, by the amplitudes of their low frequencies.

How strong an image's low frequencies are says much about scanner and protocol, their phases about
the anatomy (Yang and Soatto 2020, "FDA: Fourier domain adaptation", section 3.1). Batch styles
standardisation (BSS, Scalbert et al. 2023) gives a whole batch the amplitudes of one of its images,
so that nothing in the batch can be told apart by style; it does nothing where all images come from
one scanner, so the batches must mix scanners.

Which image gives its style is decided by a number that each sample draws from its own key: the
least wins. That does not depend on the order of the batch, and a run that is resumed or repeated
chooses the same. But only images that are there can win: processes, and the steps of an
accumulation, see their own share of a step and choose within it. A caller that wants one reference
for all of them gathers priorities and amplitudes, and calls `with_style`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medssl.views.change import Change, each, signal_zero


@dataclass(frozen=True)
class Style(Change):
    """Low-frequency amplitudes of another image; phases are kept. Mixes the samples of a batch.

    Attributes:
        picked: bool (B,).
        priority: float32 (B,) in [0, 1).
        radius: share of the highest frequency up to which amplitudes are exchanged, float32 (B,).
        whole_batch: every sample takes those of the one image of least priority, and what that
            one drew for `picked` and `radius` holds for all. Otherwise each takes those of the
            next in the order of priorities.
    """

    picked: Tensor
    priority: Tensor
    radius: Tensor
    whole_batch: bool

    def apply_to_views(self, batch: Tensor, views: int) -> Tensor:
        """`apply` for each of several views of every crop: rows are one view after the other."""
        count = len(batch) // views
        parts = [slice(start, start + count) for start in range(0, len(batch), count)]
        return torch.cat([self.rows(part).apply(batch[part], None) for part in parts])

    def apply(self, batch: Tensor, spacing: Tensor | None) -> Tensor:
        """See `Change.apply`."""
        if self.whole_batch:
            best = self.priority.argmin(keepdim=True)
            giver = best.expand(len(batch))
            picked, radius = self.picked[giver], self.radius[giver]
        else:
            giver, picked, radius = partners(self.priority), self.picked, self.radius
        axes = tuple(range(2, batch.ndim))
        zero = signal_zero(batch)
        lines = torch.fft.rfftn(batch - zero, dim=axes)
        own: Tensor = lines.abs()
        lines = with_style(lines, own, own[giver], radius, batch.shape[2:])
        image = torch.fft.irfftn(lines, s=batch.shape[2:], dim=axes) + zero
        return torch.where(each(picked, batch), image, batch)


def partners(priority: Tensor) -> Tensor:
    """For each sample another one: the next in the order of the priorities, int64 (B,)."""
    order = priority.argsort(stable=True)
    return torch.empty_like(order).scatter_(0, order, order.roll(-1))


def with_style(
    lines: Tensor, own: Tensor, given: Tensor, radius: Tensor, size: torch.Size
) -> Tensor:
    """Amplitudes below a radius replaced, phases kept.

    Args:
        lines: half spectra as of `torch.fft.rfftn`, complex64 (B, C, *half); overwritten.
        own: their amplitudes, float32.
        given: what replaces them, float32 of that shape.
        radius: share of the highest frequency along each axis, (B,).
        size: of the images.
    """
    squared = torch.zeros((), device=lines.device)
    for axis, length in enumerate(size):
        made = torch.fft.rfftfreq if axis == len(size) - 1 else torch.fft.fftfreq
        shape = [1] * len(size)
        shape[axis] = -1
        squared = squared + (2.0 * made(length, device=lines.device)).reshape(shape).square()
    low = squared <= each(radius.square(), lines)
    ratio = torch.where(low & (own > 0), given / own, 1.0)
    torch.view_as_real(lines).mul_(ratio[..., None])
    return lines
