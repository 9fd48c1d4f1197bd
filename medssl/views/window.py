"""Jitter of the CT window: another centre and width than the intensity contract's.

A crop that was clipped to the contract's window has lost what lies outside it. So a window drawn
for normalised crops lies inside the contract's: the result is exactly what clipping the raw crop to
the drawn window would have given. For raw crops (`jitter_normalisation`) any window will do.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medssl.views.change import Change, each, on_picked


@dataclass(frozen=True)
class Window(Change):
    """A narrower window inside that of normalised crops, which spans [-1, 1].

    Attributes:
        width: share of the contract's window, float32 (B,), above 0 to 1.
        place: float32 (B,) in [-1, 1]: from the lower end of the contract's window to the upper.
    """

    width: Tensor
    place: Tensor

    def apply(self, batch: Tensor, spacing: Tensor | None) -> Tensor:
        """See `Change.apply`."""
        return on_picked(self.width < 1.0, narrow_window, batch, self.width, self.place)


def narrow_window(batch: Tensor, width: Tensor, place: Tensor) -> Tensor:
    """A crop in [-1, 1] under a window inside its own; see `Window`."""
    scale = 1.0 / each(width, batch)
    centre = each(place * (1.0 - width), batch)
    return torch.addcmul(-centre * scale, batch, scale).clamp_(-1.0, 1.0)


def jitter_normalisation(normalisation: Tensor, width: Tensor, centre: Tensor) -> Tensor:
    """Normalisations of raw crops under another window, mapped to the same range as before.

    Args:
        normalisation: low, high, shift and scale of every sample, float32 (B, 4), low and high
            finite: a raw value x becomes (clip(x, low, high) - shift) * scale.
        width: of the new window, in widths of the old, float32 (B,), above 0.
        centre: distance of the new centre from the old, in widths of the old, float32 (B,).

    Returns:
        float32 (B, 4).
    """
    low, high, shift, scale = normalisation.unbind(1)
    old = high - low
    new_low = (low + high) / 2 + (centre - width / 2) * old
    return torch.stack(
        (new_low, new_low + width * old, new_low + (shift - low) * width, scale / width), dim=1
    )
