"""Intensity augmentation of a batch: what may change, what was drawn, applying it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor

from medssl.views.bias_field import TERMS, BiasField
from medssl.views.change import Change
from medssl.views.draw import Draw
from medssl.views.kspace import Ghost, Motion, Spike
from medssl.views.smooth import Blur, LowResolution, ThickSlices
from medssl.views.style import Style
from medssl.views.tone import Tone
from medssl.views.window import Window

Range = tuple[float, float]
Kind = Literal[
    "window", "style", "bias", "motion", "ghost", "spike", "blur", "low_resolution",
    "thick_slices", "contrast", "brightness", "gamma", "noise",
]  # fmt: skip
# In the order in which they are applied. The place of a kind is the stream of its numbers, so
# that asking for one more kind leaves the numbers of the others as they were.
KINDS: tuple[Kind, ...] = get_args(Kind)
_NUMBERS = 1 + len(TERMS)  # of the kind that needs most: whether it happens, and how
_NOISE_STREAM = len(KINDS)
_CHUNK = 2**18  # voxels that a CPU takes through all changes at a time: they stay in its cache


@dataclass(frozen=True)
class IntensitySettings:
    """How far a view may differ in intensity from its crop. The defaults change nothing.

    Ranges are (smallest, largest); None, 0 for a largest value, or a range of the neutral value
    alone ask for nothing. Standard deviations are those of each channel of the image, so that the
    settings suit z-scores and fixed ranges alike.

    Attributes:
        probability: of each change in each view, independently.
        probabilities: by kind, where it is another.
        window: range of the width of the CT window as a share of the contract's, above 0 to 1;
            the image must span [-1, 1]. See `medssl.views.window`.
        style: low-frequency amplitudes of another image: "batch", one image's for all, or
            "sample", for each another's.
        style_radius: range of the share of the highest frequency up to which they are exchanged.
        bias: largest coefficient of the bias field's polynomial.
        motion: largest angle in degrees about each axis and largest shift along each.
        ghost: range of what the weaker lines of k-space lose, 0 to 1.
        ghosts: smallest and largest number of copies.
        spike: range of the stripes' amplitude, in standard deviations.
        blur: range of sigma of a Gaussian blur.
        blur_each_axis: every axis its own sigma.
        low_resolution: range of the factor (at least 1) by which the grid is made coarser before
            it is interpolated back.
        thick_slices: the same along one random axis.
        contrast: range of the factor on the distance from the mean.
        brightness: largest shift, in standard deviations.
        gamma: range of the exponent on the image scaled to [0, 1], even in its logarithm.
        gamma_inverted: share of the gamma changes that are made to the inverted image.
        noise: largest standard deviation of the noise, in standard deviations of the image.
        rician: noise as in magnitude images (MR) rather than Gaussian.
        unit: of `blur` and of the shift of `motion`.
    """

    probability: float = 0.5
    probabilities: Mapping[Kind, float] = field(default_factory=dict)
    window: Range | None = None
    style: Literal["batch", "sample"] | None = None
    style_radius: Range = (0.02, 0.2)
    bias: float = 0.0
    motion: Range | None = None
    ghost: Range | None = None
    ghosts: tuple[int, int] = (2, 5)
    spike: Range | None = None
    blur: Range | None = None
    blur_each_axis: bool = False
    low_resolution: Range | None = None
    thick_slices: Range | None = None
    contrast: Range | None = None
    brightness: float = 0.0
    gamma: Range | None = None
    gamma_inverted: float = 0.0
    noise: float = 0.0
    rician: bool = False
    unit: Literal["voxel", "mm"] = "voxel"

    def asked(self, kind: Kind) -> bool:
        """Whether a kind of change may happen at all."""
        value, neutral = getattr(self, kind), 1.0 if kind in _FACTORS else 0.0
        return bool(value) and value != (neutral, neutral)


_FACTORS: frozenset[Kind] = frozenset(
    {"window", "low_resolution", "thick_slices", "contrast", "gamma"}
)


@dataclass(frozen=True)
class IntensityParams:
    """What was drawn for a batch of B views.

    Attributes:
        changes: in the order in which they are applied.
        in_mm: whether they need to know the spacing.
    """

    changes: tuple[Change, ...]
    in_mm: bool = False

    @classmethod
    def draw(cls, draw: Draw, settings: IntensitySettings) -> IntensityParams:
        """Draws for every sample of `draw`; each kind of change has its own stream.

        Raises:
            ValueError: `probabilities` names a change that there is not.
        """
        if unknown := set(settings.probabilities) - set(KINDS):
            raise ValueError(f"there is no change of intensity named {sorted(unknown)}")
        kinds = [kind for kind in KINDS if settings.asked(kind)]
        if not kinds:
            return cls(())
        units = draw.table([KINDS.index(kind) for kind in kinds], _NUMBERS)
        numbers = {kind: _Numbers(units[:, row], kind, settings) for row, kind in enumerate(kinds)}
        changes = (*_acquired(numbers, settings), *_shown(numbers, settings, draw))
        return cls(changes, settings.unit == "mm" and not {"blur", "motion"}.isdisjoint(kinds))

    def apply(
        self,
        batch: Tensor,
        spacing: Tensor | None = None,
        views: int = 1,
        overwrite: bool = False,
    ) -> Tensor:
        """The changed batch; applying twice gives the same result.

        Args:
            batch: (B, C, *spatial), any floating or integer type; it is left as it is
                unless `overwrite`.
            spacing: mm per voxel of these views, float32 (B, d); needed where the unit is mm.
            views: how many views of each crop the batch holds, one view of all crops after the
                other; style is exchanged between the crops of one view.
            overwrite: the batch is not needed afterwards.

        Returns:
            float32 (B, C, *spatial).

        Raises:
            ValueError: the unit is mm and there is no spacing.
        """
        if self.in_mm and spacing is None:
            raise ValueError("a blur or a motion in mm needs the spacing of the views")
        # A region under autocast would take matrix products in half precision.
        with torch.autocast(batch.device.type, enabled=False):
            on_cpu = batch.device.type == "cpu"
            copy = on_cpu and not overwrite
            batch = batch.to(torch.float32, copy=copy, memory_format=torch.contiguous_format)
            mixing = [n + 1 for n, change in enumerate(self.changes) if isinstance(change, Style)]
            first = mixing[0] if mixing else 0
            for change in self.changes[:first]:
                if isinstance(change, Style):
                    batch = change.apply_to_views(batch, views)
                else:
                    batch = change.apply(batch, spacing)
            alone = self.changes[first:]
            if not alone or not on_cpu:
                return _through(alone, batch, spacing)
            return self._by_chunk(alone, batch, spacing)

    @staticmethod
    def _by_chunk(changes: tuple[Change, ...], batch: Tensor, spacing: Tensor | None) -> Tensor:
        """Overwrites the batch, a few samples at a time, so that they stay in the cache."""
        step = max(1, _CHUNK // max(1, math.prod(batch.shape[1:])))
        for start in range(0, len(batch), step):
            rows = slice(start, start + step)
            part = tuple(change.rows(rows) for change in changes)
            near = None if spacing is None else spacing[rows]
            before = batch[rows]
            after = _through(part, before, near)
            if after is not before:
                before.copy_(after)
        return batch


def _through(changes: tuple[Change, ...], batch: Tensor, spacing: Tensor | None) -> Tensor:
    for change in changes:
        batch = change.apply(batch, spacing)
    return batch


class _Numbers:
    """Numbers in [0, 1) of one kind of change, float32 (B, 20): the first says whether."""

    def __init__(self, unit: Tensor, kind: Kind, settings: IntensitySettings) -> None:
        self.unit = unit
        self.picked = unit[:, 0] < settings.probabilities.get(kind, settings.probability)

    def between(self, span: Range, which: int | slice = 1) -> Tensor:
        """Evenly from a range."""
        return span[0] + (span[1] - span[0]) * self.unit[:, which]

    def or_neutral(self, values: Tensor, neutral: float) -> Tensor:
        """The values of samples that are picked, `neutral` for the others."""
        return values.where(self.picked.reshape(-1, *(1,) * (values.ndim - 1)), neutral)


def _acquired(numbers: Mapping[Kind, _Numbers], settings: IntensitySettings) -> Iterator[Change]:
    """What happens before and while an image is acquired."""
    if (n := numbers.get("window")) is not None:
        assert settings.window is not None
        width = n.or_neutral(n.between(settings.window), 1.0)
        yield Window(width, n.between((-1.0, 1.0), 2))
    if (n := numbers.get("style")) is not None:
        unit, radius = n.unit[:, 1], n.between(settings.style_radius, 2)
        yield Style(n.picked, unit, radius, settings.style == "batch")
    if (n := numbers.get("bias")) is not None:
        most = settings.bias
        yield BiasField(n.picked, n.between((-most, most), slice(1, None)))
    if (n := numbers.get("motion")) is not None:
        assert settings.motion is not None
        degrees, far = settings.motion
        turn = math.radians(degrees)
        angles = n.between((-turn, turn), slice(1, 7)).reshape(-1, 2, 3)
        shift = n.between((-far, far), slice(7, 13)).reshape(-1, 2, 3)
        ends = torch.stack((n.between((0.0, 0.45), 13), n.between((0.55, 1.0), 14)), dim=1)
        yield Motion(n.picked, angles, shift, settings.unit == "mm", ends, n.unit[:, 15])
    if (n := numbers.get("ghost")) is not None:
        assert settings.ghost is not None
        strength = n.or_neutral(n.between(settings.ghost), 0.0)
        fewest, most_copies = settings.ghosts
        number = n.between((fewest, most_copies + 1), 2).long().clamp_(max=most_copies)
        yield Ghost(strength, number, n.unit[:, 3])
    if (n := numbers.get("spike")) is not None:
        assert settings.spike is not None
        strength = n.or_neutral(n.between(settings.spike), 0.0)
        frequency = n.between((-1.0, 1.0), slice(2, 5))
        yield Spike(strength, frequency, n.between((0.0, 2.0 * math.pi), 5))


def _shown(
    numbers: Mapping[Kind, _Numbers], settings: IntensitySettings, draw: Draw
) -> Iterator[Change]:
    """What happens to the finished image."""
    if (n := numbers.get("blur")) is not None:
        assert settings.blur is not None
        sigma = n.between(settings.blur, slice(1, 4 if settings.blur_each_axis else 2))
        yield Blur(n.or_neutral(sigma, 0.0), settings.unit == "mm")
    if (n := numbers.get("low_resolution")) is not None:
        assert settings.low_resolution is not None
        yield LowResolution(n.or_neutral(n.between(settings.low_resolution), 1.0))
    if (n := numbers.get("thick_slices")) is not None:
        assert settings.thick_slices is not None
        yield ThickSlices(n.or_neutral(n.between(settings.thick_slices), 1.0), n.unit[:, 2])
    contrast, brightness = numbers.get("contrast"), numbers.get("brightness")
    gamma, noise = numbers.get("gamma"), numbers.get("noise")
    if contrast or brightness or gamma or noise:
        yield _tone(contrast, brightness, gamma, noise, settings, draw)


def _tone(
    contrast: _Numbers | None,
    brightness: _Numbers | None,
    gamma: _Numbers | None,
    noise: _Numbers | None,
    settings: IntensitySettings,
    draw: Draw,
) -> Tone:
    far, inverted = settings.brightness, torch.zeros_like(draw.keys, dtype=torch.bool)
    factor = shift = exponent = amount = None
    if contrast is not None and settings.contrast is not None:
        factor = contrast.or_neutral(contrast.between(settings.contrast), 1.0)
    if brightness is not None:
        shift = brightness.or_neutral(brightness.between((-far, far)), 0.0)
    if gamma is not None and settings.gamma is not None:
        low, high = (math.log(value) for value in settings.gamma)
        exponent = gamma.or_neutral(gamma.between((low, high)).exp(), 1.0)
        inverted = gamma.unit[:, 2] < settings.gamma_inverted
    if noise is not None:
        amount = noise.or_neutral(noise.between((0.0, settings.noise)), 0.0)
    own = draw.fork(_NOISE_STREAM)
    return Tone(factor, shift, exponent, inverted, amount, own.keys, own.stream, settings.rician)
