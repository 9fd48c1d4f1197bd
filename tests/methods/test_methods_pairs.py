"""Which places of two patients are paired, and whether they count."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from method_cases import crops as pictures
from torch import Tensor

from medssl.methods import Crops
from medssl.methods.pairs import Pairing, apart_by, partners
from medssl.methods.place_matcher import PlaceMatcher
from medssl.networks import PlaceEmbedding, build_encoder
from medssl.views import Draw, sample_key
from medssl.views.places import free_range

CPU = torch.device("cpu")


@pytest.mark.parametrize("count", [2, 3, 4, 7, 8])
def test_everyone_has_a_partner(count):
    found = partners(count, CPU)
    assert sorted(found.tolist()) == list(range(count))
    assert not (found == torch.arange(count)).any()
    if count % 4 == 0:  # two processes pair what one does
        half = partners(count // 2, CPU)
        assert torch.equal(found, torch.cat((half, half + count // 2)))
    with pytest.raises(ValueError, match="at least two"):
        partners(1, CPU)


def bodies(count: int = 6, dims: int = 2, side: int = 24) -> Crops:
    """Crops of volumes of one anatomy of many sizes: grey is where in the body a voxel is, from 0
    at one end to 1 at the other along the first axis; everything is bright at one end."""
    crops = pictures(count, dims, side)
    extent = torch.linspace(30, 40, count)[:, None].repeat(1, dims)
    place = crops.place.clone()
    place[..., -1] = 0.5 + torch.arange(count)[:, None] % 5
    crops = replace(crops, place=place, extent=extent)
    grid = torch.stack(torch.meshgrid(*[torch.arange(side)] * dims, indexing="ij")).float()
    where = crops.relative(grid.expand(count, -1, *grid.shape[1:]))
    return replace(crops, image=where[:, :1].contiguous())


@pytest.mark.parametrize("dims", [2, 3])
def test_by_position_both_places_are_at_the_same_share_of_their_volumes(dims):
    crops = bodies(dims=dims)
    pairs = Pairing("position", (24,) * dims, (8,) * dims, tolerance=1e-4)(crops)
    other = crops.take(pairs.partner)
    here, there = (
        c.relative(p[..., None])[..., 0] for c, p in ((crops, pairs.first), (other, pairs.second))
    )
    torch.testing.assert_close(here, there)
    assert torch.equal(pairs.weight, torch.ones(6))
    assert pairs.apart.max() < 1e-5
    low, high = free_range((24,) * dims, (8,) * dims, CPU)
    for places in (pairs.first, pairs.second):
        assert ((places >= low) & (places <= high)).all()
    assert not torch.equal(pairs.first[0], pairs.first[1])
    # Candidates are tried until one is bright, where one is within the partner's reach.
    mean = crops.image.flatten(1).mean(1)
    assert (here[:4, 0] > mean[:4] - 0.02).all()


def test_places_out_of_reach_weigh_nothing_and_stay_inside():
    crops = bodies(2, side=16)
    place = crops.place.clone()
    place[1, :, -1] += 20  # the crops show other ends of the body
    crops = replace(crops, place=place)
    pairs = Pairing("position", (16, 16), (8, 8))(crops)
    assert pairs.weight.tolist() == [0.0, 0.0]
    assert pairs.second[0].tolist() == [3.5, 3.5]  # as near as it gets
    near = Pairing("position", (16, 16), (8, 8), tolerance=1.0)(crops)
    assert near.weight.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("alignment", ["position", "random", "displaced"])
def test_crops_of_one_subject_weigh_nothing(alignment):
    crops = replace(bodies(4), subject=torch.tensor([0, 0, 1, 2]))
    pairs = Pairing(alignment, (24, 24), (8, 8))(crops)
    assert pairs.weight.tolist() == [0.0, 0.0, 1.0, 1.0]


def many(count: int = 400) -> Crops:
    crops = bodies(2)
    numbers = torch.arange(count)
    keys = torch.tensor([sample_key(0, 0, n) for n in range(count)])
    crops = crops.take(numbers % 2)
    return replace(crops, draw=Draw(keys, 1), subject=numbers)


def test_displaced_places_are_half_a_view_from_the_match_and_random_ones_anywhere():
    crops = many()
    found = {
        name: Pairing(name, (24, 24), (10, 10))(crops)
        for name in ("position", "displaced", "random")
    }
    match, away, anywhere = (found[name] for name in ("position", "displaced", "random"))
    assert torch.equal(match.first, away.first)
    assert torch.equal(match.weight, away.weight)
    moved = (away.second - match.second).abs().amax(1)
    assert moved.min() >= 5 - 1e-4
    low, high = free_range((24, 24), (10, 10), CPU)
    for pairs in (away, anywhere):
        assert ((pairs.second >= low) & (pairs.second <= high)).all()
    mean = anywhere.second.mean(0)
    torch.testing.assert_close(mean, torch.tensor([11.5, 11.5]), atol=0.6, rtol=0)
    assert ((anywhere.second - match.second).abs().amax(1) < 5).any()


def test_a_view_needs_room():
    with pytest.raises(ValueError, match="do not lie in crops"):
        Pairing("position", (16, 16), (24, 8))
    with pytest.raises(ValueError, match="crops of twice the view"):
        Pairing("displaced", (16, 16), (9, 12))
    Pairing("displaced", (16, 16), (8, 16))
    pairs = Pairing("random", (24, 24), (24, 24))(bodies(2))
    assert pairs.first.tolist() == pairs.second.tolist() == [[11.5, 11.5]] * 2


class Knowing:
    """Finds places by what `bodies` says that they are, with a similarity that it is told."""

    def __init__(self, crops: Crops, score: Tensor) -> None:
        self._crops, self._score = crops, score

    def match(self, image, partner, points, low, high):
        """See `Matcher`."""
        other = self._crops.take(partner)
        return other.from_relative(self._crops.relative(points)), self._score[None, :].expand(
            len(image), -1
        )


def test_by_an_embedding_the_first_candidate_above_the_score_is_taken():
    crops = bodies(4)
    bright = replace(crops, image=torch.ones_like(crops.image))  # no candidate is brighter
    score = torch.tensor([0.2, 0.8, 0.9, 0.1])
    made = Pairing("embedding", (24, 24), (8, 8), candidates=4, matcher=Knowing(crops, score))
    pairs = made(bright)
    assert pairs.score.tolist() == pytest.approx([0.8] * 4)
    assert pairs.weight.tolist() == [1.0] * 4
    assert pairs.apart.max() < 1e-5
    poor = Knowing(crops, torch.tensor([0.2, 0.1, 0.6, 0.1]))
    pairs = Pairing("embedding", (24, 24), (8, 8), candidates=4, matcher=poor)(bright)
    assert pairs.score.tolist() == pytest.approx([0.6] * 4)
    assert pairs.weight.tolist() == [0.0] * 4


def test_an_embedding_finds_the_same_picture_where_it_was_moved_to():
    """A picture and the same one moved by whole cells: what is alike lies where it went."""
    torch.manual_seed(0)
    made = PlaceEmbedding(build_encoder("unet", 2, 1, widths=[8, 16]), dim=16, width=8)
    matcher = PlaceMatcher(made)
    assert not any(p.requires_grad for p in made.parameters())
    wide = torch.nn.functional.interpolate(torch.randn(1, 1, 10, 10), scale_factor=5)
    image = torch.cat((wide[..., 4:36, 4:36], wide[..., 8:40, 8:40]))
    low, high = free_range((32, 32), (12, 12), CPU)
    points = torch.tensor([[12.5, 16.5, 18.5], [14.5, 20.5, 12.5]]).expand(2, -1, -1)
    found, score = matcher.match(image, torch.tensor([1, 0]), points, low, high)
    shift = torch.tensor([-4.0, 4.0]).reshape(2, 1, 1)
    wanted = points + shift
    assert torch.equal(found[0], wanted[0])
    assert (score[0] > 0.9).all()
    assert (found >= low[:, None]).all()
    assert (found <= high[:, None]).all()
    fixed, _ = matcher.match(image, torch.tensor([1, 0]), points, low * 0 + 15.5, low * 0 + 15.5)
    assert torch.equal(fixed, torch.full_like(fixed, 15.5))


def test_how_far_apart_is_of_the_farthest_axis():
    crops = bodies(2)
    same = crops.take(torch.tensor([0, 0]))
    points = torch.zeros(2, 2, 1)
    found = torch.tensor([[3.0], [6.0]]).expand(2, -1, -1)
    assert apart_by(same, same, points, found).flatten().tolist() == pytest.approx([6 / 30] * 2)


def test_planes_of_a_volume_that_lie_apart_do_not_match():
    """A place in the one slice is not in the other, however alike its place in the plane."""
    crops = bodies(4)
    place = torch.zeros(4, 3, 3)
    place[:, 0, 1], place[:, 1, 0] = 1.0, 1.0
    place[:, 2, 2] = torch.tensor([2.0, 28.0, 10.0, 11.0])
    crops = replace(crops, place=place, extent=torch.full((4, 3), 30.0))
    pairs = Pairing("position", (24, 24), (8, 8))(crops)
    assert pairs.weight.tolist() == [0.0, 0.0, 1.0, 1.0]
    assert pairs.apart.tolist() == pytest.approx([26 / 30, 26 / 30, 1 / 30, 1 / 30])
