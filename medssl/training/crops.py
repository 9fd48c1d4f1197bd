"""Where a crop lies, and reading it: its own bytes, straight to where it is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from medssl.errors import MedsslError
from medssl.store.grid import resample
from medssl.training.catalogue import Catalogue
from medssl.training.read_ahead import ReadAhead
from medssl.training.sampling import Numbers
from medssl.training.volumes import Opened

Array = npt.NDArray[Any]
Plane = Literal["axial", "coronal", "sagittal", "any"]

# plane -> the axis across it, and those that rows and columns follow. As they are looked at, down
# is towards the back (axial) or the feet, and right the patient's left or (sagittal) back: both run
# against RAS+.
PLANES = {"axial": (2, 1, 0), "coronal": (1, 2, 0), "sagittal": (0, 2, 1)}

_PADDING_ERROR = 1 / 32  # of what padding is after normalising, where it should be 0
_ROUNDING = 16.0  # whole numbers of foreground deviation, from where rounding is below 2 % of it
_SAME_SPACING = 1e-3  # relative
_AHEAD = ReadAhead()  # of this process: what is in memory concerns all its sources


@dataclass(frozen=True)
class Cut:
    """A crop's place in an opened volume.

    Attributes:
        start, size: voxels per axis of the volume.
        native: voxels of the crop before it is resampled, per axis of the crop, padding included.
        before: of ``native``, the padding before the volume begins.
        plane: of a 2D crop of a 3D volume, its three axes; None where crop and volume agree.
    """

    start: tuple[int, ...]
    size: tuple[int, ...]
    native: tuple[int, ...]
    before: tuple[int, ...]
    plane: tuple[int, int, int] | None = None

    @property
    def axes(self) -> tuple[int, ...]:
        """The volume's axis of each axis of the crop."""
        return self.plane[1:] if self.plane else tuple(range(len(self.start)))


@dataclass(frozen=True)
class Shape:
    """What all crops of a run share.

    Attributes:
        size: voxels of a crop.
        spacing: mm they are resampled to, per axis of the crop; None keeps the volume's own.
        foreground: the share of crops that hold a voxel of the foreground in their middle.
        plane: of 2D crops of 3D volumes.
    """

    size: tuple[int, ...]
    spacing: tuple[float, ...] | None = None
    foreground: float = 0.0
    plane: Plane | None = None

    def planes(self) -> list[tuple[int, int, int] | None]:
        """The planes that a crop may lie in."""
        if self.plane is None:
            return [None]
        return list(PLANES.values()) if self.plane == "any" else [PLANES[self.plane]]

    def native(self, spacing: Sequence[float]) -> tuple[int, ...]:
        """Voxels of ``spacing`` (per axis of the crop) that a crop spans."""
        if self.spacing is None or same_spacing(spacing, self.spacing):
            return self.size
        sizes = zip(self.size, self.spacing, spacing, strict=True)
        return tuple(max(1, round(n * wanted / own)) for n, wanted, own in sizes)


def same_spacing(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two spacings are the same but for rounding."""
    return all(abs(a - b) <= _SAME_SPACING * b for a, b in zip(one, other, strict=True))


def cut(shape: Shape, volume: Opened, numbers: Numbers) -> Cut:
    """Draw a crop's place.

    Args:
        shape: of all crops.
        volume: that it is cut from.
        numbers: of the sample.
    """
    planes = shape.planes()
    plane = planes[numbers.below(len(planes)) if len(planes) > 1 else 0]
    axes = plane[1:] if plane else tuple(range(len(volume.shape)))
    native = shape.native([volume.spacing[axis] for axis in axes])
    size = [1] * len(volume.shape)
    for axis, n in zip(axes, native, strict=True):
        size[axis] = min(n, volume.shape[axis])
    room = [extent - n for n, extent in zip(size, volume.shape, strict=True)]
    start = [numbers.below(r + 1) if r else 0 for r in room]
    if shape.foreground and any(room) and numbers.chance(shape.foreground):
        centre = volume.places.draw(numbers) if volume.places else None
        if centre is not None:
            rows = zip(centre, size, room, strict=True)
            start = [min(max(c - n // 2, 0), r) for c, n, r in rows]
    before = []
    for axis, n in zip(axes, native, strict=True):
        missing = n - size[axis]
        before.append(numbers.below(missing + 1) if missing else 0)
    return Cut(tuple(start), tuple(size), native, tuple(before), plane)


def read(array: Any, where: Cut, out: Array, pad: float, order: int) -> None:
    """Read a crop into ``out``, padded and resampled where it must be.

    Args:
        array: (C, *shape) of the volume.
        where: the crop's place.
        out: (C, *size), of a dtype that holds the volume's values; written whole.
        pad: the value outside of the volume.
        order: 0 nearest (labels), 1 linear.
    """
    window = [slice(first, first + n) for first, n in zip(where.start, where.size, strict=True)]
    _AHEAD.before(array, window)
    _read(array[(slice(None), *window)], where, out, pad, order)
    _AHEAD.after()


def _read(view: Any, where: Cut, out: Array, pad: float, order: int) -> None:
    if where.plane is not None:
        # Of the two axes left, the column's comes first in the volume, for every plane.
        view = view.squeeze(1 + where.plane[0]).swapaxes(1, 2)[:, ::-1, ::-1]
    if where.native == out.shape[1:]:
        if view.shape == out.shape:
            np.copyto(out, view, casting="unsafe")
        else:
            out[...] = pad
            np.copyto(_inside(out, where.before, view.shape), view, casting="unsafe")
        return
    block = np.full((len(view), *where.native), pad, np.float32 if order else view.dtype)
    np.copyto(_inside(block, where.before, view.shape), view, casting="unsafe")
    values = resample(block, out.shape[1:], order)
    if np.issubdtype(out.dtype, np.integer) and order:
        values = np.rint(values)
    np.copyto(out, values, casting="unsafe")


def _inside(array: Array, before: Sequence[int], shape: Sequence[int]) -> Array:
    window = [slice(b, b + n) for b, n in zip(before, shape[1:], strict=True)]
    return array[(slice(None), *window)]


def wire_dtype(volumes: Catalogue, shape: Shape, wanted: str | None = None) -> np.dtype[Any]:
    """The dtype of a run's crops until the device makes float32 of them.

    The smallest that holds what every volume stores, but float32 where that would change what the
    network sees: where a whole number is too far from the value that padding must have, and where
    resampled values are rounded to whole numbers that are coarse beside the foreground's spread.

    Args:
        volumes: all that crops may come from.
        shape: of the crops.
        wanted: "float32" or "float16", whatever they store.

    Raises:
        MedsslError: CONFIG_INVALID where float16 cannot hold the intensities.
    """
    if wanted == "float16":
        largest = float(max(np.abs(volumes.low).max(), np.abs(volumes.high).max()))
        if largest > float(np.finfo(np.float16).max) or float(volumes.deviation.min()) < 1e-3:
            raise MedsslError(
                "CONFIG_INVALID",
                f"float16 does not hold the intensities of these volumes, up to {largest:g}",
                where="dtype",
                fix="Leave dtype out, or use float32.",
            )
    if wanted is not None:
        return np.dtype(wanted)
    dtype = np.result_type(*(np.dtype(name.decode()) for name in np.unique(volumes.dtypes)))
    if dtype not in [np.dtype(t) for t in ("uint8", "int16", "uint16", "float16")]:
        return np.dtype(np.float32)
    if dtype.kind == "f":
        return dtype
    padded, resampled = touched(volumes, shape)
    shift, scale = volumes.normalisation[padded, 2], volumes.normalisation[padded, 3]
    off = np.abs(pad_value(shift, dtype) - shift) * scale
    coarse = resampled & (volumes.deviation < _ROUNDING)
    too_coarse = bool((off > _PADDING_ERROR).any()) or bool(coarse.any())
    return np.dtype(np.float32) if too_coarse else dtype


def touched(volumes: Catalogue, shape: Shape) -> tuple[Array, Array]:
    """Which volumes give crops that are padded, and which that are resampled."""
    padded, resampled = np.zeros((2, len(volumes)), dtype=bool)
    for plane in shape.planes():
        axes = list(plane[1:] if plane else range(volumes.dims))
        own, extent = volumes.spacing[:, axes], volumes.shape[:, axes]
        size = np.array(shape.size)
        if shape.spacing is not None:
            wanted = np.array(shape.spacing)
            resampled |= (np.abs(own - wanted) > _SAME_SPACING * wanted).any(axis=1)
            padded |= (np.rint(extent * own / wanted) < size).any(axis=1)
            size = np.rint(size * wanted / own)
        padded |= (extent < size).any(axis=1)
    return padded, resampled


def pad_value(shift: Any, dtype: np.dtype[Any]) -> Any:
    """What becomes 0 when normalised, as near as the dtype holds it."""
    if dtype.kind == "f":
        return np.asarray(shift).astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(shift), limits.min, limits.max).astype(dtype)
