from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from medssl.losses import spherical_kmeans


def blobs(count: int = 60, groups: int = 3, width: int = 6) -> tuple[Tensor, Tensor]:
    """Rows around a few directions, and which each is of."""
    generator = torch.Generator().manual_seed(0)
    group = torch.arange(count) % groups
    rows = 4 * torch.eye(width)[group] + 0.3 * torch.randn(count, width, generator=generator)
    return rows * (1 + torch.rand(count, 1, generator=generator)), group


def slow(rows: Tensor, start: Tensor, iterations: int) -> tuple[list[list[float]], list[int]]:
    """One row after the other in float64; no centroid may be without rows."""
    unit = F.normalize(rows.double()).tolist()
    centroids = F.normalize(start.double()).tolist()

    def nearest(row: list[float]) -> int:
        cosines = [sum(a * b for a, b in zip(row, c, strict=True)) for c in centroids]
        return cosines.index(max(cosines))

    for _ in range(iterations):
        places = [nearest(row) for row in unit]
        for k in range(len(centroids)):
            members = [row for row, place in zip(unit, places, strict=True) if place == k]
            total = [sum(column) for column in zip(*members, strict=True)]
            length = sum(value * value for value in total) ** 0.5
            centroids[k] = [value / length for value in total]
    return centroids, [nearest(row) for row in unit]


def test_it_is_lloyds_algorithm_on_the_sphere():
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(40, 5, generator=generator)
    centroids, nearest = spherical_kmeans(rows, rows[:4], 6)
    expected, places = slow(rows, rows[:4], 6)
    torch.testing.assert_close(centroids, torch.tensor(expected), rtol=1e-5, atol=1e-5)
    assert nearest.tolist() == places


@pytest.mark.parametrize("held", [1, 20, 1 << 24])
def test_it_finds_groups_in_parts_of_any_size(held: int):
    rows, group = blobs()
    centroids, nearest = spherical_kmeans(rows, rows[:3], 10, held)
    assert torch.equal(nearest, group)
    torch.testing.assert_close(centroids.norm(dim=1), torch.ones(3))


def test_no_centroid_stays_empty_while_there_are_rows():
    rows, _ = blobs()
    for count in (3, 12):
        _, nearest = spherical_kmeans(rows, rows[:1].expand(count, -1), 10)  # all at one place
        assert len(nearest.unique()) == count


def test_with_more_centroids_than_rows_every_row_is_its_own():
    rows = torch.eye(3)
    centroids, nearest = spherical_kmeans(rows, rows[:1].expand(7, -1), 4)
    assert centroids.isfinite().all()
    assert len(nearest.unique()) == 3
    torch.testing.assert_close(centroids[nearest], rows)


def test_wrong_shapes_are_refused():
    for rows, start in (((0, 3), (2, 3)), ((4, 3), (2, 4)), ((4,), (2, 4))):
        with pytest.raises(ValueError, match=r"rows \(N, D\) and centroids \(K, D\)"):
            spherical_kmeans(torch.zeros(rows), torch.zeros(start))
