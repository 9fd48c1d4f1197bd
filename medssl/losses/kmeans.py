"""k-means on the sphere: which of K directions each row is nearest to."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Similarities held at once: 64 MiB, however many rows there are.
_HELD = 1 << 24


@torch.no_grad()
def spherical_kmeans(
    rows: Tensor, start: Tensor, iterations: int = 10, held: int = _HELD
) -> tuple[Tensor, Tensor]:
    """Spherical k-means (Dhillon and Modha 2001), as DeepCluster-v2 uses it.

    Each round gives every row to the centroid of largest cosine, and makes every centroid the
    direction of the sum of its rows. A centroid without rows goes to a row that is served worst:
    the n-th of them to the n-th worst. The same input gives the same output, on a GPU too: no sum
    is in the order of threads.

    Args:
        rows: (N, D), N at least 1; scaled to length 1 here.
        start: (K, D), the first centroids.
        iterations: rounds.
        held: most similarities in memory at once.

    Returns:
        centroids float32 (K, D) of length 1, and the number of each row's centroid, int64 (N,).

    Raises:
        ValueError: the shapes are not (N, D) and (K, D), or there are no rows.
    """
    if rows.ndim != 2 or start.ndim != 2 or rows.shape[1] != start.shape[1] or not len(rows):
        raise ValueError(
            "k-means needs rows (N, D) and centroids (K, D), N at least 1, not "
            f"{tuple(rows.shape)} and {tuple(start.shape)}"
        )
    with torch.autocast(rows.device.type, enabled=False):
        unit, centroids = F.normalize(rows.float()), F.normalize(start.float())
        for _ in range(iterations):
            nearest, similarity, sums, counts = _round(unit, centroids, held)
            empty = counts == 0
            # Places of the worst served rows; more centroids than rows begin again with the first.
            turn = (empty.cumsum(0) - 1).clamp(min=0) % len(unit)
            worst = unit[similarity.argsort(stable=True)[turn]]
            centroids = torch.where(empty[:, None], worst, F.normalize(sums))
        nearest, *_ = _round(unit, centroids, held)
        return centroids, nearest


def _round(unit: Tensor, centroids: Tensor, held: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Each row's centroid and its cosine, (N,) both; sums of rows (K, D) and their counts (K,)."""
    nearest, similarity = [], []
    sums, counts = torch.zeros_like(centroids), centroids.new_zeros(len(centroids))
    for part in torch.split(unit, max(1, held // len(centroids))):
        best, place = (part @ centroids.T).max(1)
        members = F.one_hot(place, len(centroids)).to(part.dtype)
        sums += members.T @ part
        counts += members.sum(0)
        nearest.append(place)
        similarity.append(best)
    return torch.cat(nearest), torch.cat(similarity), sums, counts
