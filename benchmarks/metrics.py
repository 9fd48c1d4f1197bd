"""Dice, NSD and HD95 of a pair of label maps beside MONAI's, and how far the two agree.

python benchmarks/metrics.py
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
import typer
from paired import ratio, take_turns
from scipy import ndimage

from medssl.evaluate.segmentation import segmentation_metrics

Labels = npt.NDArray[np.uint8]
TOLERANCE = 1.0


def organs(shape: Sequence[int], classes: int, seed: int, uneven: float) -> Labels:
    """Ellipsoids, the same for every seed, whose surfaces a seed makes uneven in its own way."""
    places, noise = np.random.default_rng(0), np.random.default_rng(seed)
    axes = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in shape), indexing="ij", sparse=True)
    coarse = noise.normal(size=[max(3, n // 12) for n in shape]).astype(np.float32)
    bumps = ndimage.zoom(coarse, np.divide(shape, coarse.shape), order=1)
    labels = np.zeros(shape, np.uint8)
    for value in range(1, classes + 1):
        middle = [n * places.uniform(0.25, 0.75) for n in shape]
        radius = [n * places.uniform(0.06, 0.22) for n in shape]
        square = sum(((x - m) / r) ** 2 for x, m, r in zip(axes, middle, radius, strict=True))
        labels[np.sqrt(square) + uneven * bumps < 1] = value
    return labels


def monai(
    prediction: Labels, truth: Labels, spacing: Sequence[float], classes: int, subvoxels: bool
) -> Callable[[], Any]:
    """MONAI's three functions on one-hot maps; making those counts."""
    from monai.metrics import compute_dice, compute_hausdorff_distance, compute_surface_dice

    def hot(labels: Labels) -> torch.Tensor:
        index = torch.from_numpy(labels).long()
        return torch.nn.functional.one_hot(index, classes + 1).movedim(-1, 0)[None].float()

    def run() -> tuple[torch.Tensor, ...]:
        maps = hot(prediction), hot(truth)
        limits = [TOLERANCE] * classes
        return (
            compute_dice(*maps, include_background=False)[0],
            compute_surface_dice(*maps, limits, spacing=spacing, use_subvoxels=subvoxels)[0],
            compute_hausdorff_distance(*maps, spacing=spacing, percentile=95)[0],
        )

    return run


def compare(
    name: str, shape: Sequence[int], spacing: Sequence[float], classes: int, rounds: int
) -> None:
    """One row a kind of pair."""
    numbers = tuple(range(1, classes + 1))
    for kind, uneven in (("far", 0.12), ("close", 0.03)):
        truth, prediction = (organs(shape, classes, seed, uneven) for seed in (1, 2))
        rows: dict[str, Callable[[], Any]] = {
            "medssl": lambda p=prediction, t=truth: segmentation_metrics(
                p, t, spacing, numbers, TOLERANCE
            ),
            "voxels": monai(prediction, truth, spacing, classes, subvoxels=False),
            "areas": monai(prediction, truth, spacing, classes, subvoxels=True),
        }
        seconds = take_turns(rows, rounds)
        mine, theirs = rows["medssl"](), rows["areas"]()
        dice = max(abs(mine[c].dice - float(theirs[0][c - 1])) for c in numbers)
        nsd = max(abs(mine[c].nsd - float(theirs[1][c - 1])) for c in numbers)
        hd95 = [np.mean([m.hd95_mm for m in mine.values()]), float(theirs[2].mean())]
        print(
            f"| {name}, {kind} (Dice {np.mean([m.dice for m in mine.values()]):.2f}) "
            f"| {1000 * min(seconds['medssl']):.1f} | {ratio(seconds, 'voxels', 'medssl'):.1f} "
            f"| {ratio(seconds, 'areas', 'medssl'):.1f} | {dice:.0e} | {nsd:.0e} "
            f"| {hd95[0]:.2f} / {hd95[1]:.2f} |"
        )


def main(
    side: Annotated[int, typer.Option(help="Of the large pair, voxels.")] = 256,
    rounds: Annotated[int, typer.Option(help="How often the large pair is timed.")] = 3,
    threads: Annotated[int, typer.Option(help="Of PyTorch, for MONAI; medssl uses one.")] = 1,
) -> None:
    """Print the table, of each one's best round: ms, how often as long MONAI takes, agreement."""
    torch.set_num_threads(threads)
    warnings.simplefilter("ignore")  # MONAI, of empty maps and its own changes
    print("| pair | medssl, ms | MONAI, voxels | MONAI, areas | Dice | NSD | HD95, mm |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    compare("35 x 50 x 36, 2 classes", (35, 50, 36), (1.0, 1.0, 1.0), 2, 10 * rounds)
    compare(f"{side}^3, 6 classes", (side,) * 3, (0.8, 0.8, 1.5), 6, rounds)


if __name__ == "__main__":
    typer.run(main)
