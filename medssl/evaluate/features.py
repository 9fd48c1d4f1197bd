"""Frozen features of whole volumes and of single voxels."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from medssl.bundle import Architecture, InputContract
from medssl.evaluate.inference import prepare_volume, resolve_device
from medssl.evaluate.windows import cut, pad_to_patch, padding, window_starts
from medssl.networks import Encoder, build_encoder, pooled
from medssl.progress import track
from medssl.store import Store, Volume
from medssl.store.grid import resample, resampled_size

# Differs from the streams that training starts its networks from.
_RANDOM_STREAM = 104_729


@dataclass(frozen=True)
class Features:
    """One row per volume: ``values`` (n, d) float32 on the CPU, and whose image it is."""

    values: Tensor
    volume_ids: list[str]
    subject_ids: list[str]


@dataclass(frozen=True)
class VoxelFeatures:
    """One row per sampled voxel, with its label's position among the classes; ``pooled`` has
    the same volumes' whole-volume features."""

    values: Tensor
    labels: npt.NDArray[np.int64]
    volume_ids: list[str]
    subject_ids: list[str]
    pooled: Features


def random_encoder(architecture: Architecture, seed: int) -> Encoder:
    """The same encoder with random weights; the same seed gives the same weights."""
    spec = architecture.encoder
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_RANDOM_STREAM + seed)
        encoder = build_encoder(spec.name, spec.dims, spec.in_channels, **spec.options)
    return encoder.eval()


def pooled_features(
    encoder: Encoder,
    store: Store,
    volume_ids: Sequence[str],
    contract: InputContract,
    *,
    device: str | torch.device = "auto",
    batch_size: int = 32,
) -> Features:
    """Mean over space of the encoder's deepest feature map, for each volume.

    A volume is prepared as the contract says and padded to the patch size; one that is larger is
    covered by windows side by side, whose features are averaged.

    Args:
        encoder: any encoder; it is put in evaluation mode.
        volume_ids: which volumes of the store.
        contract: of the bundle the encoder comes from.
        device: where it runs; "auto" takes a GPU if there is one.
        batch_size: windows per forward pass.

    Raises:
        MedsslError: CONTRACT_MISMATCH where a volume has other dimensions or channels.
    """
    place = resolve_device(device)
    encoder = encoder.to(place).eval()
    volumes = [store[volume_id] for volume_id in volume_ids]
    totals = torch.zeros(len(volumes), encoder.channels[-1])
    counts = torch.zeros(len(volumes))
    with torch.inference_mode():
        for owners, windows in _batches(_windows(volumes, contract), batch_size):
            totals.index_add_(0, owners, pooled(encoder(windows.to(place))).float().cpu())
            counts.index_add_(0, owners, torch.ones(len(owners)))
    return Features(
        totals / counts[:, None],
        [volume.volume_id for volume in volumes],
        [volume.subject_id for volume in volumes],
    )


def voxel_features(
    encoder: Encoder,
    store: Store,
    volume_ids: Sequence[str],
    contract: InputContract,
    classes: Sequence[int],
    *,
    per_class: int = 24,
    seed: int = 0,
    partial: Collection[str] = (),
    device: str | torch.device = "auto",
) -> VoxelFeatures:
    """Feature maps of all levels, interpolated at sampled voxels and concatenated.

    In each volume up to ``per_class`` voxels of every class are drawn, so classes are balanced;
    which ones depends on the seed and the volume only, so encoders are compared on the same.

    Args:
        classes: label values, background (0) among them.
        per_class: voxels of each class in a volume.
        seed: of the draw.
        partial: volumes that were not annotated for every class. Their background is not certain,
            and no voxel of it is drawn.

    Other arguments and errors as :func:`pooled_features`; every volume has a label map.
    """
    place = resolve_device(device)
    encoder = encoder.to(place).eval()
    values, labels, owners, deepest = [], [], [], []
    volumes = [store[volume_id] for volume_id in volume_ids]
    with torch.inference_mode():
        for volume in track(volumes, "features"):
            drawn = [None if c == 0 and volume.volume_id in partial else c for c in classes]
            points, found = sample_voxels(volume, contract, drawn, per_class, seed)
            at_points, mean = _at_points(encoder, volume, contract, points, place)
            values.append(at_points)
            deepest.append(mean)
            labels.append(found)
            owners += [volume] * len(found)
    ids = [volume.volume_id for volume in volumes]
    return VoxelFeatures(
        torch.cat(values),
        np.concatenate(labels),
        [volume.volume_id for volume in owners],
        [volume.subject_id for volume in owners],
        Features(torch.stack(deepest), ids, [volume.subject_id for volume in volumes]),
    )


def sample_voxels(
    volume: Volume,
    contract: InputContract,
    classes: Sequence[int | None],
    per_class: int,
    seed: int,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Voxels (n, dims) on the grid the network sees, before padding, and the places of their
    classes in ``classes`` (n,); none where that has None."""
    label: Any = volume.label()
    if contract.spacing is not None:
        label = resample(label, _network_size(volume, contract), order=0)
    digest = hashlib.sha256(volume.volume_id.encode()).digest()
    generator = np.random.default_rng((seed, int.from_bytes(digest[:8], "big")))
    points, found = [], []
    for position, value in enumerate(classes):
        if value is None:
            continue
        places = np.flatnonzero(np.asarray(label[0]) == value)
        drawn = generator.permutation(len(places))[:per_class]
        points.append(np.stack(np.unravel_index(places[drawn], label.shape[1:]), axis=1))
        found.append(np.full(len(drawn), position, np.int64))
    return np.concatenate(points).astype(np.int64), np.concatenate(found)


def _network_size(volume: Volume, contract: InputContract) -> tuple[int, ...]:
    assert contract.spacing is not None
    return resampled_size(volume.shape, volume.spacing, contract.spacing)


def _at_points(
    encoder: Encoder,
    volume: Volume,
    contract: InputContract,
    points: npt.NDArray[np.int64],
    place: torch.device,
) -> tuple[Tensor, Tensor]:
    """Features (n, d) at the points, each from the window whose middle is nearest; and the mean
    of the deepest features of the windows used."""
    image = prepare_volume(volume.array(), volume.spacing, volume.row, contract)
    before = [first for first, _ in padding(image.shape[1:], contract.patch_size)]
    image = pad_to_patch(image, contract.patch_size)
    starts = np.asarray(window_starts(image.shape[1:], contract.patch_size, overlap=0.5))
    padded = points + np.asarray(before)
    middles = starts + (np.asarray(contract.patch_size) - 1) / 2
    # a sum over axes is least where every axis is, so the window holds the voxel
    away = (padded[:, None] - middles[None]) / np.asarray(contract.patch_size)
    nearest = np.square(away).sum(axis=2).argmin(axis=1)
    values = torch.zeros(len(points), sum(encoder.channels))
    means = []
    for window in np.unique(nearest):
        rows = torch.from_numpy(np.flatnonzero(nearest == window))
        start = starts[window].tolist()
        maps = encoder(cut(image, start, contract.patch_size)[None].to(place))
        local = torch.from_numpy(padded[nearest == window] - starts[window])
        values[rows] = interpolate(maps, encoder.strides, local.to(place)).float().cpu()
        means.append(pooled(maps)[0].float().cpu())
    return values, torch.stack(means).mean(0)


def interpolate(maps: Sequence[Tensor], strides: Sequence[int], points: Tensor) -> Tensor:
    """Feature maps [(1, c_i, *spatial / stride_i)] at voxels (n, dims): (n, Σ c_i), linear.

    Cell j of a map with stride s covers voxels j s to (j + 1) s - 1.
    """
    parts = []
    for features, stride in zip(maps, strides, strict=True):
        extent = torch.tensor(features.shape[2:], device=points.device) * stride
        # grid_sample counts from -1 to 1 across the map, last axis first
        where = ((2 * points + 1) / extent - 1).flip(1).to(features.dtype)
        grid = where.reshape(1, -1, *[1] * (points.shape[1] - 1), points.shape[1])
        sampled = F.grid_sample(features, grid, padding_mode="border", align_corners=False)
        parts.append(sampled.reshape(features.shape[1], -1).T)
    return torch.cat(parts, dim=1)


def _windows(volumes: Sequence[Volume], contract: InputContract) -> Iterator[tuple[int, Tensor]]:
    for owner, volume in enumerate(track(volumes, "features")):
        image = prepare_volume(volume.array(), volume.spacing, volume.row, contract)
        image = pad_to_patch(image, contract.patch_size)
        for start in window_starts(image.shape[1:], contract.patch_size, overlap=0.0):
            yield owner, cut(image, start, contract.patch_size)


def _batches(
    windows: Iterable[tuple[int, Tensor]], batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    owners: list[int] = []
    images: list[Tensor] = []
    for owner, image in windows:
        owners.append(owner)
        images.append(image)
        if len(images) == batch_size:
            yield torch.tensor(owners), torch.stack(images)
            owners, images = [], []
    if images:
        yield torch.tensor(owners), torch.stack(images)
