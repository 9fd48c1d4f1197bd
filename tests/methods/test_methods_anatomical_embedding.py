from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from method_cases import ENCODERS, crops, make

from medssl.bundle import Architecture, Bundle, BundleSpec, EncoderSpec, InputContract
from medssl.networks import pooled
from medssl.views import in_mm

NAME = "anatomical_embedding"


class Recorder(torch.nn.Module):
    """Keeps what the loss is given."""

    def forward(self, *given):
        """As the loss; any scalar with a gradient."""
        self.given = dict(
            zip(
                ("queries", "keys", "counts", "candidates", "allowed", "offers", "subject"),
                given,
                strict=True,
            )
        )
        return given[0].mean()


def recorded(dims=2, spacing=None, **options):
    method, batch = make(NAME, dims=dims, **options), crops(dims=dims)
    if spacing is not None:
        batch = replace(batch, spacing=torch.tensor([spacing]).expand(len(batch), -1))
    method._fine, method._coarse = Recorder(), Recorder()
    method.step(batch)
    return method, batch, method._fine.given, method._coarse.given


@pytest.mark.parametrize("dims", [2, 3])
def test_positives_are_one_place_in_both_views_and_in_the_crop(dims):
    method, batch = make(NAME, dims=dims), crops(dims=dims)
    pair = method._pair(batch)
    (first, second), counts = method._matched(pair, batch.draw.fork(1000))
    assert first.shape == second.shape == (4, dims, 12)
    assert counts.float().mean() > 0.9
    one, other = (in_mm(v, v.to_crop(p)) for v, p in zip(pair, (first, second), strict=True))
    inside = counts[:, None].expand_as(one)
    torch.testing.assert_close(one[inside], other[inside], atol=0.06, rtol=0)
    for points in (first, second):
        assert ((points > -0.501) & (points < 15.501))[inside].all()
    assert ((one > -0.501) & (one < 15.501))[inside].all()


def test_a_point_that_is_in_one_view_alone_does_not_count():
    narrow = {"crop_scale": (0.1, 0.1)}  # two small views of a crop seldom meet
    method, batch = make(NAME, view=narrow), crops()
    _, counts = method._matched(method._pair(batch), batch.draw.fork(1000))
    assert not counts.all()
    assert method.step(batch).loss.isfinite()


@pytest.mark.parametrize(("dims", "spacing"), [(2, (1.0, 1.0)), (3, (1.0, 0.5, 3.0))])
def test_negatives_are_farther_than_asked_for_in_mm_and_no_padding(dims, spacing):
    method, batch, *levels = recorded(dims, spacing, pool=10_000)
    pair = method._pair(batch)
    (first, _), _ = method._matched(pair, batch.draw.fork(1000))
    places = in_mm(pair[0], pair[0].to_crop(first))
    for level, (given, stride) in enumerate(zip(levels, method.network.strides, strict=True)):
        grid = (16 // stride,) * dims
        _, where, whole = method._cells(
            pair, [torch.zeros(4, 1, *grid)] * 2, batch.draw.fork(1001 + level)
        )
        assert where.shape == (4, dims, 2 * grid[0] ** dims)  # every cell once
        far = (places[:, :, :, None] - where[:, :, None]).square().sum(1).sqrt()
        expected = (far > method._far[level]) & whole[:, None]
        assert torch.equal(given["allowed"], expected.repeat(1, 2, 1))
        assert expected.any()
        assert not expected.all()
        size = torch.tensor(spacing)[:, None]
        inside = ((where > -0.5 * size - 1e-4) & (where < 15.5 * size + 1e-4)).all(1)
        assert torch.equal(whole, inside)


def test_the_loss_sees_both_directions_and_the_subjects():
    _, batch, fine, coarse = recorded()
    for given in (fine, coarse):
        assert torch.equal(given["queries"][:, :12], given["keys"][:, 12:])
        assert torch.equal(given["queries"][:, 12:], given["keys"][:, :12])
        assert torch.equal(given["offers"], given["candidates"][:, :4])
        assert torch.equal(given["subject"], batch.subject)
    assert fine["candidates"].shape == (4, 80, 8)  # 40 of the 64 cells of each view
    assert coarse["candidates"].shape == (4, 32, 8)


@pytest.mark.parametrize(("most", "each"), [(100, 4), (16, 4), (9, 3), (1, 1)])
def test_of_a_large_batch_every_sample_offers_fewer(most, each):
    for given in recorded(most_others=most)[2:]:
        assert given["offers"].shape == (4, each, 8)
    assert recorded(others=0)[2]["offers"].shape == (4, 0, 8)


def test_its_loss_is_the_mean_of_both_maps_and_watched_by_the_first_view():
    method, batch = make(NAME), crops()
    step = method.step(batch)
    expected = (step.logs["fine_loss"] + step.logs["coarse_loss"]) / 2
    torch.testing.assert_close(step.loss, expected)
    features = pooled(method.encoder(method.views(batch)[0]))
    torch.testing.assert_close(step.embedding, features, atol=1e-5, rtol=1e-4)
    one, other = step.positives
    assert one.shape == other.shape == (16, 16)
    torch.testing.assert_close(one.norm(dim=1), torch.ones(16))


def test_its_bundle_gives_the_embedding_back(tmp_path):
    method = make(NAME).eval()
    encoder = EncoderSpec(name="unet", dims=2, options=ENCODERS["unet"])
    spec = BundleSpec(
        kind="encoder",
        architecture=Architecture(encoder=encoder, **method.bundle_parts()),
        contract=InputContract(dims=2, patch_size=[16, 16]),
    )
    Bundle.save(tmp_path / "bundle", method.bundle_state(), spec)
    image = crops().image
    found = Bundle.load(tmp_path / "bundle").embedding()(image)
    for got, expected in zip(found, method.network(image), strict=True):
        assert torch.equal(got, expected)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_preview_marks_what_is_asked_and_where_it_is_found(dims):
    method, batch = make(NAME, dims=dims).eval(), crops(dims=dims)
    with torch.no_grad():
        shown = method.preview(batch)
    assert list(shown) == ["voxel", "similarity", "found in the next", "similarity to the next"]
    for name in ("voxel", "found in the next"):
        top = batch.image if name == "voxel" else batch.image.roll(-1, 0)
        for picture, image in zip(shown[name], top, strict=True):
            plane = picture[0] if dims == 2 else picture[0, :, :, 0]
            assert 3 <= int((plane == plane.max()).sum()) <= 6  # a cross, at a border less
            assert picture.max() <= image.max()
    own = shown["similarity"].flatten(1).argmax(1)
    cross = (shown["voxel"] == shown["voxel"].amax((1, 2, 3), keepdim=True)) if dims == 2 else None
    if cross is not None:
        # most alike to itself: the brightest voxel lies in the cell of the cross
        rows = torch.stack((own // 16, own % 16), dim=1)
        for place, mask in zip(rows, cross[:, 0], strict=True):
            centre = mask.nonzero().float().mean(0)
            assert (place - centre).abs().max() <= 3
