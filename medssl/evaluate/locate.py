"""Finding points of one scan in another, by what an embedding says of their place in the body."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from medssl.errors import MedsslError
from medssl.evaluate.inference import check_shape, prepare_volume, resolve_device, volume_logits
from medssl.evaluate.windows import cut, pad_to_patch, padding
from medssl.networks import PlaceEmbedding, PlacePoints

if TYPE_CHECKING:
    from medssl.bundle import InputContract

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scan:
    """A scan to find points of or in.

    Attributes:
        array: (channel, x, y, z) in RAS+, or (channel, row, column), raw values.
        spacing: mm per axis.
        stats: its intensity statistics (`store.intensity.statistics`).
    """

    array: npt.NDArray[Any]
    spacing: Sequence[float]
    stats: Mapping[str, float]


@dataclass(frozen=True)
class Located:
    """Points found in a scan.

    Attributes:
        voxels: float64 (P, d), of its array.
        similarity: float64 (P,), from -1 to 1, the mean of the fine and the coarse cosine there.
        return_mm: float64 (P,): found again in the scan the points are from, how far from where
            they were asked for. Small where there and back agree.
        maps: float32 (P, *spatial), the similarity to every voxel of the scan, on the device.
    """

    voxels: Array
    similarity: Array
    return_mm: Array
    maps: Tensor


def locate(
    embedding: PlaceEmbedding,
    first: Scan,
    second: Scan,
    points: Array,
    contract: InputContract,
    device: str | torch.device = "cpu",
) -> Located:
    """Points of one scan in another, and back.

    Args:
        embedding: of a bundle.
        first, second: prepared as the contract says, window by window, whatever their size.
        points: voxels of the first scan's array, float64 (P, d).
        contract: of the bundle.
        device: where the windows run; "auto" takes a GPU if there is one.

    Raises:
        MedsslError: POINT_OUTSIDE, CONTRACT_MISMATCH, DEVICE_MISSING.
    """
    vectors = describe(embedding, first, points, contract, device)
    maps = similarities(embedding, second, vectors, contract, device)
    voxels, similarity = strongest(maps)
    back = describe(embedding, second, voxels, contract, device)
    again, _ = strongest(similarities(embedding, first, back, contract, device))
    away = np.linalg.norm((again - points) * np.asarray(first.spacing), axis=1)
    return Located(voxels, similarity, away, maps)


def describe(
    embedding: PlaceEmbedding,
    scan: Scan,
    points: Array,
    contract: InputContract,
    device: str | torch.device = "cpu",
) -> PlacePoints:
    """The vectors of points, each from a window with the point as near to its middle as the scan
    allows: (1, P, dim), on the device.

    Args and errors as :func:`locate`.
    """
    check_shape(scan.array.shape, contract)
    native = np.asarray(scan.array.shape[1:])
    inside = (points >= -0.5) & (points <= native - 0.5)
    if not inside.all():  # nan is not inside either
        raise MedsslError(
            "POINT_OUTSIDE",
            f"The point lies outside of the scan, whose voxels are 0 to {(native - 1).tolist()}",
        )
    place, patch = resolve_device(device), np.asarray(contract.patch_size)
    image = prepare_volume(scan.array, scan.spacing, scan.stats, contract)
    before = [first for first, _ in padding(image.shape[1:], contract.patch_size)]
    where = (points + 0.5) * (np.asarray(image.shape[1:]) / native) - 0.5 + np.asarray(before)
    image = pad_to_patch(image, contract.patch_size)
    starts = np.clip(np.rint(where - (patch - 1) / 2), 0, np.asarray(image.shape[1:]) - patch)
    network, size = embedding.to(place).eval(), (1, len(points), embedding.dim)
    found = PlacePoints(torch.zeros(size, device=place), torch.zeros(size, device=place))
    windows, owner = np.unique(starts.astype(int), axis=0, return_inverse=True)
    with torch.inference_mode():
        for number, start in enumerate(windows):
            rows = np.flatnonzero(owner.ravel() == number)
            maps = network(cut(image, start.tolist(), contract.patch_size)[None].to(place))
            local = torch.as_tensor((where[rows] - start).T[None], dtype=torch.float32)
            for level, vectors in zip(found, network.sample(maps, local.to(place)), strict=True):
                level[:, torch.from_numpy(rows)] = vectors
    return found


def similarities(
    embedding: PlaceEmbedding,
    scan: Scan,
    points: PlacePoints,
    contract: InputContract,
    device: str | torch.device = "cpu",
) -> Tensor:
    """How alike points are to every voxel of a scan: float32 (P, *spatial) on its own grid.

    Windows overlap by half and are averaged with Gaussian weights. Errors as :func:`locate`.
    """
    alike = _Similarity(embedding, points)
    return volume_logits(alike, scan.array, scan.spacing, scan.stats, contract, device)


def strongest(maps: Tensor) -> tuple[Array, Array]:
    """The voxel of the largest value of every map (P, *spatial), (P, d), and that value, (P,)."""
    value, index = maps.flatten(1).max(dim=1)
    voxels = np.stack(np.unravel_index(index.cpu().numpy(), maps.shape[1:]), axis=1)
    return voxels.astype(np.float64), value.double().cpu().numpy()


class _Similarity(nn.Module):
    """An embedding as a model with an output for every point."""

    def __init__(self, embedding: PlaceEmbedding, points: PlacePoints) -> None:
        super().__init__()
        self.embedding, self._points = embedding, points

    def forward(self, windows: Tensor) -> Tensor:
        """(B, channels, *patch) -> (B, P, *patch)."""
        maps = self.embedding(windows)
        return self.embedding.similarity(self._points, maps, windows.shape[2:])
