from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from small_encoders import SMALL

from medssl.networks import PlaceEmbedding, PlaceMaps, PlacePoints, build_encoder
from medssl.networks.place_embedding import cell_centres, sample_cells


def embedding(kind="unet", dims=2, **options):
    torch.manual_seed(0)
    family, sizes = SMALL[kind]
    return PlaceEmbedding(build_encoder(family, dims, 1, **sizes), dim=6, width=8, **options)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("fine_stride", [1, 2])
@pytest.mark.parametrize("kind", SMALL)
def test_two_maps_of_unit_vectors_for_every_encoder(kind, fine_stride, dims):
    made = embedding(kind, dims, fine_stride=fine_stride)
    side = 32 if kind in ("classic", "bottleneck") else 16
    maps = made(torch.randn(2, 1, *(side,) * dims))
    assert made.strides == (fine_stride, made.encoder.strides[-1])
    assert maps.fine.shape == (2, 6, *(side // fine_stride,) * dims)
    assert maps.coarse.shape == (2, 6, *(side // made.strides[1],) * dims)
    for cells in maps:
        torch.testing.assert_close(cells.norm(dim=1), torch.ones_like(cells[:, 0]))
    (
        maps.fine.square().mul(torch.arange(6).view(-1, *(1,) * dims)).sum() + maps.coarse.sum()
    ).backward()
    assert all(p.grad is not None for p in made.embedding.parameters())


def test_sizes_that_the_stride_does_not_divide():
    maps = embedding()(torch.randn(1, 1, 13, 18))
    assert maps.fine.shape[2:] == (7, 9)
    assert maps.coarse.shape[2:] == (4, 5)


def test_a_shift_of_the_image_shifts_the_maps():
    """Cells of both maps lie where they are said to lie."""
    made = embedding().eval()
    image = torch.zeros(1, 1, 64, 64)
    image[0, 0, 28, 28] = 5.0
    one, other = made(image).fine, made(image.roll((8, 4), (2, 3))).fine
    torch.testing.assert_close(one[..., 4:-8, 4:-8], other[..., 8:-4, 6:-6], atol=2e-2, rtol=0)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_sampled_vector_at_a_cells_centre_is_its_own(dims):
    cells = F.normalize(torch.randn(2, 5, *(3, 4, 2)[:dims]))
    grid = cells.shape[2:]
    index = torch.tensor([[0, 5], [7, 2]])
    points = cell_centres(index, grid, 4)
    found = sample_cells(cells, points, 4)
    for b in range(2):
        torch.testing.assert_close(found[b], cells[b].flatten(1)[:, index[b]].T)


def test_between_two_cells_it_is_their_mean_and_outside_the_nearest():
    cells = F.normalize(torch.randn(1, 5, 1, 3))
    points = torch.tensor([[[0.0, 0.0], [1.5, 9.0]]])  # cells of 2: centres at 0.5, 2.5, 4.5
    found = sample_cells(cells, points, 2)[0]
    mean = F.normalize((cells[0, :, 0, 0] + cells[0, :, 0, 1])[None])[0]
    torch.testing.assert_close(found[0], mean)
    torch.testing.assert_close(found[1], cells[0, :, 0, 2])


def test_numbers_of_cells_are_row_major():
    found = cell_centres(torch.tensor([[0, 1, 4, 11]]), (3, 4), 2)[0]
    assert found.T.tolist() == [[0.5, 0.5], [0.5, 2.5], [2.5, 0.5], [4.5, 6.5]]


@pytest.mark.parametrize("dims", [2, 3])
def test_a_point_is_found_in_its_own_image(dims):
    made = embedding(dims=dims).eval()
    with torch.no_grad():
        maps = made(torch.randn(2, 1, *(16,) * dims))
        wanted = made.centres(torch.tensor([[3, 20], [11, 9]]), maps.fine.shape[2:])
        fine = made.sample(maps, wanted)
        found, score = made.find(fine, PlaceMaps(maps.fine, maps.coarse))
    assert found.shape == (2, dims, 2)
    # The coarse cosine is that of a linearly interpolated vector with vectors of its cells.
    assert (score <= 1 + 1e-6).all()
    fine_only = (fine.fine @ maps.fine.flatten(2)).argmax(2)
    torch.testing.assert_close(made.centres(fine_only, maps.fine.shape[2:]), wanted)


@pytest.mark.parametrize(("dims", "side"), [(2, 16), (2, 13), (3, 8)])
def test_similarity_is_the_mean_cosine_with_the_vectors_sampled_at_every_voxel(dims, side):
    made = embedding(dims=dims)
    maps = PlaceMaps(
        *(F.normalize(torch.randn(2, 6, *(-(-side // s),) * dims)) for s in made.strides)
    )
    points = PlacePoints(*(F.normalize(torch.randn(1, 3, 6), dim=2) for _ in range(2)))
    for size, stride in (((side,) * dims, 1), (None, 2)):
        grid = size or maps.fine.shape[2:]
        count = torch.arange(math.prod(grid)).expand(2, -1)
        sampled = made.sample(maps, cell_centres(count, grid, stride))
        expected = sum(p @ s.transpose(1, 2) for p, s in zip(points, sampled, strict=True)) / 2
        found = made.similarity(points, maps, size)
        assert found.shape == (2, 3, *grid)
        torch.testing.assert_close(found.flatten(2), expected, atol=1e-5, rtol=1e-4)


def test_an_encoder_without_a_way_to_the_fine_map_is_refused():
    with pytest.raises(ValueError, match="encoder of strides .* leads to no fine map of stride 3"):
        embedding(fine_stride=3)
    with pytest.raises(ValueError, match="at least 1"):
        PlaceEmbedding(embedding().encoder, dim=0)
