"""Places of one patient found in another: how far they are from where they should be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from medssl.bundle import Bundle, BundleSpec
from medssl.evaluate.locate import Scan, describe, similarities, strongest
from medssl.networks import PlaceEmbedding, PlacePoints, build_embedding
from medssl.progress import track
from medssl.store import Volume

Array = npt.NDArray[Any]
ARMS = ("embedding", "random weights", "same relative position", "image centre")
FOUND, RANDOM, RELATIVE, CENTRE = ARMS
GONE = 8.0  # mm


def measured(
    bundle: Bundle, volumes: Sequence[Volume], labels: Mapping[int, str], seed: int, device: str
) -> pd.DataFrame:
    """How far from the middle of a label its middle in another volume is found.

    Args:
        bundle: with an embedding.
        volumes: each is paired with every other; all have all labels.
        labels: name of every label value.
        seed: of the random weights.
        device: where the embedding runs.

    Returns:
        a row for every ordered pair, label and arm: ``from`` and ``to`` (subjects), ``label``,
        ``arm``, ``error_mm``; of networks also ``similarity`` and ``return_mm``.
    """
    scans = [Scan(np.asarray(v.array()), v.spacing, v.row) for v in volumes]
    middles = [centroids(volume, list(labels)) for volume in volumes]
    nets = {FOUND: bundle.embedding(), RANDOM: random_embedding(bundle.spec, seed)}
    pairs = {arm: located(net, scans, middles, bundle, device) for arm, net in nets.items()}
    rows = []
    for i, j in pairs[FOUND]:
        first, second = (np.asarray(scans[k].array.shape[1:]) for k in (i, j))
        places = {
            FOUND: pairs[FOUND][i, j],
            RANDOM: pairs[RANDOM][i, j],
            RELATIVE: (middles[i] + 0.5) / first * second - 0.5,
            CENTRE: np.broadcast_to((second - 1) / 2, middles[j].shape),
        }
        for arm, where in places.items():
            away = (where[:, : len(first)] - middles[j]) * np.asarray(scans[j].spacing)
            for number, label in enumerate(labels.values()):
                row: dict[str, Any] = {"label": label, "arm": arm}
                row |= {"from": volumes[i].subject_id, "to": volumes[j].subject_id}
                row["error_mm"] = float(np.linalg.norm(away[number]))
                if arm in nets:
                    similarity, distance = where[number, -2:]
                    row |= {"similarity": similarity, "return_mm": distance}
                rows.append(row)
    return pd.DataFrame(rows)


def centroids(volume: Volume, values: Sequence[int]) -> Array:
    """The mean voxel of every label, (labels, d)."""
    label = volume.label()
    assert label is not None
    return np.stack([np.argwhere(label[0] == value).mean(axis=0) for value in values])


def random_embedding(spec: BundleSpec, seed: int) -> PlaceEmbedding:
    """The same network with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_embedding(spec.architecture.model_dump()).eval()


def missed(
    bundle: Bundle, volumes: Sequence[Volume], labels: Mapping[int, str], device: str
) -> pd.DataFrame:
    """What the embedding says where it cannot be right: the middles of labels are looked for in
    volumes that were cut so that the middle of one of them is gone.

    Args as of :func:`measured`.

    Returns:
        a row for every ordered pair, label that was cut away, and label that is looked for:
        ``from``, ``to``, ``label``, ``gone`` (it is the one cut away; the others are the control,
        where their middles are left), ``similarity`` and ``return_mm``.
    """
    scans = [Scan(np.asarray(v.array()), v.spacing, v.row) for v in volumes]
    middles = [centroids(volume, list(labels)) for volume in volumes]
    network, rows = bundle.embedding(), []
    for number in range(len(labels)):
        cut = [without(scan, some[number]) for scan, some in zip(scans, middles, strict=True)]
        kept = [part for _, part in cut]
        found = located(network, scans, middles, bundle, device, [scan for scan, _ in cut])
        for (i, j), where in found.items():
            axis, first, last = kept[j]
            for other, label in enumerate(labels.values()):
                if other != number and not first <= middles[j][other, axis] < last:
                    continue
                row = {"from": volumes[i].subject_id, "to": volumes[j].subject_id}
                similarity, distance = where[other, -2:]
                asked = {"label": label, "gone": other == number}
                rows.append({**row, **asked, "similarity": similarity, "return_mm": distance})
    return pd.DataFrame(rows)


def without(scan: Scan, place: Array) -> tuple[Scan, tuple[int, int, int]]:
    """The larger part of a scan, along its longest axis, that lies at least ``GONE`` mm from a
    voxel; and that axis, with the first voxel kept and the one after the last."""
    extent = np.asarray(scan.array.shape[1:]) * np.asarray(scan.spacing)
    axis = int(extent.argmax())
    far, length = GONE / scan.spacing[axis], scan.array.shape[1 + axis]
    before, after = int(np.floor(place[axis] - far)) + 1, int(np.ceil(place[axis] + far))
    first, last = (0, before) if before >= length - after else (after, length)
    array = scan.array[(slice(None),) * (1 + axis) + (slice(first, last),)]
    return Scan(array, scan.spacing, scan.stats), (axis, first, last)


def located(
    network: PlaceEmbedding,
    scans: Sequence[Scan],
    points: Sequence[Array],
    bundle: Bundle,
    device: str,
    targets: Sequence[Scan] | None = None,
) -> dict[tuple[int, int], Array]:
    """Points of every scan i in every other scan j: (i, j) -> (P, d + 2), voxel of j, similarity,
    and mm from the point to where what was found is found again in i.

    As `medssl.evaluate.locate.locate` does it, but the points of all scans at once. With
    ``targets`` those are looked in, one for each scan.
    """
    contract, count = bundle.spec.contract, range(len(scans))
    targets = scans if targets is None else targets
    vectors = [
        describe(network, scan, some, contract, device)
        for scan, some in zip(scans, points, strict=True)
    ]
    there: dict[tuple[int, int], Array] = {}
    back: dict[tuple[int, int], PlacePoints] = {}
    for j in track(list(count), "there"):
        others = [i for i in count if i != j]
        asked = joined(vectors[i] for i in others)
        voxels, alike = strongest(similarities(network, targets[j], asked, contract, device))
        again = describe(network, targets[j], voxels, contract, device)
        ends = np.cumsum([0, *(len(points[i]) for i in others)])
        for i, first, last in zip(others, ends, ends[1:], strict=False):
            there[i, j] = np.column_stack((voxels[first:last], alike[first:last]))
            back[i, j] = PlacePoints(*(level[:, first:last] for level in again))
    for i in track(list(count), "back"):
        others = [j for j in count if j != i]
        asked = joined(back[i, j] for j in others)
        voxels, _ = strongest(similarities(network, scans[i], asked, contract, device))
        away = voxels - np.concatenate([points[i]] * len(others))
        distance = np.linalg.norm(away * np.asarray(scans[i].spacing), axis=1)
        for j, some in zip(others, distance.reshape(len(others), -1), strict=True):
            there[i, j] = np.column_stack((there[i, j], some))
    return there


def joined(points: Iterable[PlacePoints]) -> PlacePoints:
    """The points of several, behind each other."""
    fine, coarse = zip(*points, strict=True)
    return PlacePoints(torch.cat(fine, dim=1), torch.cat(coarse, dim=1))
