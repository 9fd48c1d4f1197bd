"""What pretext tasks share: where they look, and what an answer costs."""

from __future__ import annotations

import math

import pytest
import torch
from method_cases import crops, make

from medssl.methods import Crops, Samples
from medssl.methods.pretext import PretextConfig, answered
from medssl.networks import build_encoder
from medssl.views import Draw, sample_key

NAMES = ["rotation", "relative_position", "mp3"]


def half_padded(count: int = 6) -> Crops:
    """Crops of 16 x 12 x 16 that reach out of their volumes: padding is -100, anything else not."""
    size, spacing = (16, 12, 16), torch.tensor([1.0, 1.0, 2.0]).expand(count, -1)
    start, extent = torch.tensor([-4.0, 2.0, -6.0]), torch.tensor([9.0, 40.0, 60.0])
    place = torch.cat((torch.diag_embed(spacing), start.expand(count, -1)[..., None]), dim=2)
    keys = torch.tensor([sample_key(0, 0, number) for number in range(count)])
    image = torch.randn(count, 1, *size, generator=torch.Generator().manual_seed(0))
    number = torch.arange(count)
    made = Crops(image, Draw(keys), spacing, number, number, place, extent.expand(count, -1))
    grid = torch.stack(torch.meshgrid(*map(torch.arange, size), indexing="ij")).float()
    mm = made.in_volume(grid.expand(count, *grid.shape))
    outside = ((mm < 0) | (mm > made.extent[:, :, None, None, None])).any(1, keepdim=True)
    image[outside] = -100.0
    return made


def test_the_part_inside_the_volume_is_known():
    batch = half_padded()
    first, last = batch.inside()
    # Voxels 4 to 13 along the first axis lie 0 to 9 mm into a volume of 9 mm; and 3 to the end.
    assert first[0].tolist() == [4.0, -0.5, 3.0]
    assert last[0].tolist() == [13.0, 11.5, 15.5]
    whole = Crops.whole(batch.image, batch.draw, batch.spacing, batch.volume)
    first, last = whole.inside()
    assert (first == -0.5).all()
    assert last[0].tolist() == [15.5, 11.5, 15.5]


def test_the_part_inside_is_known_of_planes_that_run_against_the_volume():
    image, keys = torch.zeros(1, 1, 8, 6), torch.tensor([sample_key(0, 0, 0)])
    # Rows run from 7 mm down along the second axis, columns up from -1 mm along the third.
    place = torch.tensor([[[0.0, 0.0, 3.0], [-1.0, 0.0, 7.0], [0.0, 2.0, -1.0]]])
    extent, number = torch.tensor([[5.0, 5.0, 30.0]]), torch.arange(1)
    made = Crops(image, Draw(keys), torch.tensor([[1.0, 2.0]]), number, number, place, extent)
    first, last = made.inside()
    assert first.tolist() == [[2.0, 0.5]]
    assert last.tolist() == [[7.0, 5.5]]


@pytest.mark.parametrize("name", NAMES)
def test_padding_is_never_looked_at(name):
    """It lies on some sides of a crop and not on others, and would tell them apart."""
    torch.manual_seed(0)
    kind = type(make(name))
    encoder = build_encoder("vit", 3, 1, patch_size=4, embed_dim=24, depth=1, heads=2)
    none = {"probability": 0.0}
    method = kind(kind.Config(intensity=none), encoder, Samples((16, 12, 16)))
    # A voxel next to the padding is mixed with it at most by half.
    for view in method.views(half_padded()):
        edge = tuple(slice(1, -1) for _ in range(3))
        assert view[(..., *edge)].amin() > -5
    assert half_padded().image.amin() == -100


@pytest.mark.parametrize("cube", [False, True])
def test_parts_lie_inside_and_have_the_sides_that_are_asked_for(cube):
    method, batch = make("rotation", dims=3, share=(0.5, 0.8)), half_padded(32)
    outer, (first, last) = batch.inside(), method.part(batch, cube)
    assert (first >= outer[0] - 1e-5).all()
    assert (last <= outer[1] + 1e-5).all()
    sides = last - first
    shares = sides / (outer[1] - outer[0])
    if cube:
        mm = sides * batch.spacing
        torch.testing.assert_close(mm, mm[:, :1].expand_as(mm))
        shares = mm[:, :1] / 9.0  # the shortest of 9, 12 and 25 mm
    else:
        torch.testing.assert_close(shares, shares[:, :1].expand_as(shares))
    assert ((shares >= 0.5 - 1e-5) & (shares <= 0.8 + 1e-5)).all()
    assert shares.amax() - shares.amin() > 0.2
    assert ((first - outer[0]).std(0) > 0.1).all()


@pytest.mark.parametrize("share", [(0.0, 1.0), (0.8, 0.7), (0.5, 1.1)])
def test_shares_are_of_a_whole(share):
    with pytest.raises(ValueError, match="share must be a range"):
        PretextConfig(share=share)


@pytest.mark.parametrize("shape", [(5, 4), (3, 7, 6)])
def test_the_loss_is_the_mean_surprise_at_the_answer(shape):
    generator = torch.Generator().manual_seed(0)
    logits = (3 * torch.randn(*shape, generator=generator)).requires_grad_()
    answer = torch.randint(shape[-1], shape[:-1], generator=generator)
    step = answered(logits, answer, torch.zeros(shape[0], 2))
    total, right, rows = 0.0, 0, 0
    for row, wanted in zip(
        logits.detach().double().reshape(-1, shape[-1]).tolist(), answer.flatten().tolist(),
        strict=True,
    ):  # fmt: skip
        total -= math.log(math.exp(row[wanted]) / sum(map(math.exp, row)))
        right += max(row) == row[wanted]
        rows += 1
    assert step.loss.item() == pytest.approx(total / rows, rel=1e-6)
    assert float(step.logs["accuracy"]) == pytest.approx(right / rows)
    assert float(step.logs["chance"]) == pytest.approx(1 / shape[-1])
    # All alike is the trivial answer, whatever is asked.
    same = answered(torch.zeros(shape), answer, torch.zeros(shape[0], 2))
    assert float(same.loss) == pytest.approx(step.trivial_loss, rel=1e-6)
    step.loss.backward()
    assert logits.grad is not None
    after = answered(logits - logits.grad, answer, torch.zeros(1, 2)).loss
    assert after.item() < step.loss.item()


def test_half_precision_makes_no_other_loss():
    logits = torch.randn(8, 5, generator=torch.Generator().manual_seed(0)).bfloat16()
    answer = torch.arange(8) % 5
    with torch.autocast("cpu", torch.bfloat16):
        half = answered(logits, answer, torch.zeros(8, 2)).loss
    assert half.dtype == torch.float32
    assert torch.equal(half, answered(logits.float(), answer, torch.zeros(8, 2)).loss)


@pytest.mark.parametrize("name", NAMES)
def test_views_of_a_crop_change_in_intensity_but_not_in_place(name):
    """What is asked does not depend on it."""
    with_it, without = (
        make(name, intensity={"probability": p, "brightness": 0.5}) for p in (1.0, 0.0)
    )
    batch = crops()
    for changed, plain in zip(with_it.views(batch), without.views(batch), strict=True):
        shift = changed - plain
        assert shift.abs().amax() > 0.01
        torch.testing.assert_close(shift, shift.mean((1, 2, 3), keepdim=True).expand_as(shift))
    torch.testing.assert_close(with_it._drawn(batch), without._drawn(batch))
