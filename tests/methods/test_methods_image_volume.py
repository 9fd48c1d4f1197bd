"""What is special to image-volume clustering: slices, volumes, and what is between them."""

import math

import pytest
import torch
import torch.nn.functional as F
from method_cases import case, crops, make

from medssl.bundle import EncoderSpec, InputContract
from medssl.methods import METHODS, Samples
from medssl.networks import SliceEncoder, build_encoder, pooled
from medssl.views import random_mask


def solid(**options):
    return make("image_volume", dims=3, **options)


def both(**options):
    """For crops of 3D and 2D in turn."""
    kind = METHODS["image_volume"]
    spec = kind.encoder_for(EncoderSpec(dims=3, options={"widths": [4, 8, 8]}))
    torch.manual_seed(0)
    encoder = build_encoder(spec.name, 3, 1, **spec.options)
    config = kind.Config(**(case("image_volume").options | options))
    return kind(config, encoder, Samples((16,) * 3, 64, (12, 12), 1))


def test_any_encoder_is_put_on_slices_in_3d_and_left_alone_in_2d():
    kind = METHODS["image_volume"]
    for dims, name in ((2, "vit"), (3, "slices")):
        asked = EncoderSpec(name="vit", dims=dims, options={"patch_size": 4})
        assert kind.encoder_for(asked).name == name
    assert kind.encoder_for(asked).options["of_options"] == {"patch_size": 4}
    assert kind.encoder_for(kind.encoder_for(asked)) == kind.encoder_for(asked)
    assert isinstance(solid().encoder, SliceEncoder)


def test_pictures_alone_are_swavs():
    torch.manual_seed(1)
    ours = make("image_volume").step(crops()).loss
    theirs = make("swav", local_views=0, **case("image_volume").options).step(crops()).loss
    assert torch.equal(ours, theirs)


def test_the_loss_is_the_weighted_sum_of_its_parts():
    plain = solid().step(crops(dims=3))
    parts = ("slice_loss", "volume_loss", "inter_loss", "mask_loss")
    assert set(plain.logs) == set(parts)
    assert plain.loss.item() == pytest.approx(sum(float(plain.logs[p]) for p in parts), rel=1e-6)
    weights = {"volume_weight": 0.5, "inter_weight": 2.0, "mask_weight": 0.0}
    other = solid(**weights).step(crops(dims=3))
    expected = [float(other.logs[p]) * w for p, w in zip(parts, (1, 0.5, 2, 0), strict=True)]
    assert other.loss.item() == pytest.approx(sum(expected), rel=1e-6)
    assert other.trivial_loss == pytest.approx(3.5 * math.log(12))


def test_a_slice_is_the_picture_of_a_plane_of_its_crop():
    method, batch = solid(slices=3), crops(count=4, dims=3)
    chosen = batch.draw.fork(1000).integers(0, 16, 3)
    for plan in method._picture_plans:
        assert plan.size == (16, 16)
    method._picture_plans = [_untouched(plan) for plan in method._picture_plans]
    first, second = method.pictures(batch)
    assert torch.equal(first, second)
    assert first.shape == (12, 1, 16, 16)
    for number in range(3):
        for sample in range(4):
            plane = batch.image[sample, 0, :, :, chosen[sample, number]]
            assert torch.equal(first[3 * sample + number, 0], plane.T.flip(0, 1))


def _untouched(plan):
    import dataclasses

    from medssl.views import ViewSettings

    return dataclasses.replace(plan, settings=ViewSettings())


def test_volumes_are_compared_by_what_the_encoder_pools():
    method, batch = solid(), crops(dims=3)
    step = method.step(batch)
    views = method.views(batch)
    features = pooled(method.encoder(torch.cat(views)))
    torch.testing.assert_close(step.embedding, features[:4], rtol=1e-4, atol=1e-5)
    z1, z2 = method.volume_projector(features).chunk(2)
    torch.testing.assert_close(step.positives, (z1, z2), rtol=1e-4, atol=1e-4)


def test_hidden_slices_are_predicted_from_the_others():
    method, batch = solid(mask_ratio=0.2), crops(dims=3)
    tokens = torch.randn(8, 16, 8)
    found = method._hidden_loss(batch, tokens)
    terms = []
    for view in range(2):
        mask = random_mask(batch.draw.fork(1001 + view), (16,), 4 / 16)
        assert mask.sum((1, 2)).tolist() == [4] * 4  # a fifth of 16, rounded up
        for sample in range(4):
            own, hidden = tokens[4 * view + sample], mask[sample, 0]
            filled = own.clone()
            filled[hidden] = method.hidden_slice
            predicted = method.decoder_of_slices(method.encoder.attended(filled[None]))[0]
            truth = F.layer_norm(own, (8,))
            terms += [(predicted[s] - truth[s]).square().mean() for s in range(16) if hidden[s]]
    torch.testing.assert_close(found, torch.stack(terms).mean(), rtol=1e-4, atol=1e-5)


def test_what_is_hidden_has_no_say_but_as_the_target():
    method, batch = solid(), crops(dims=3)
    tokens = torch.randn(8, 16, 8, requires_grad=True)
    method._hidden_loss(batch, tokens).backward()
    masks = [random_mask(batch.draw.fork(1001 + v), (16,), 2 / 16) for v in range(2)]
    hidden = torch.cat(masks)[:, 0]
    assert not tokens.grad[hidden].any()
    assert tokens.grad[~hidden].abs().sum(1).min() > 0


def test_the_2d_encoder_is_the_one_in_the_slices():
    method = solid()
    state = method.bundle_state()
    other = {k.removeprefix("other."): v for k, v in state.items() if k.startswith("other.")}
    inner = {k.replace("encoder.of.", "encoder."): v for k, v in state.items() if ".of." in k}
    assert other.keys() == inner.keys()
    assert all(torch.equal(other[name], inner[name]) for name in other)
    contract = InputContract(dims=3, patch_size=[8, 10, 12], spacing=[1.0, 2.0, 3.0])
    spec = METHODS["image_volume"].encoder_for(EncoderSpec(dims=3, options={"widths": [4, 8, 8]}))
    found = method.other_spec(spec, contract, None)
    assert (found.contract.dims, found.contract.patch_size) == (2, [10, 8])  # rows run along y
    assert found.contract.spacing == [2.0, 1.0]
    assert (found.encoder.name, found.encoder.options) == ("unet", {"widths": [4, 8, 8]})
    flat = InputContract(dims=2, patch_size=[12, 12])
    assert method.other_spec(spec, contract, flat).contract == flat


def test_it_learns_from_pictures_and_volumes_in_turn():
    method = both()
    for dims, side in ((3, 16), (2, 12)):
        method.zero_grad()
        step = method.step(crops(dims=dims, side=side))
        step.loss.backward()
        assert [n for n, p in method.named_parameters() if p.grad is None] == []
        of = dict(method.encoder.of.named_parameters())
        assert sum(bool(p.grad.any()) for p in of.values()) > 0.8 * len(of)
        volumes = any(p.grad.any() for p in method.volume_projector.parameters())
        assert volumes == (dims == 3)
        assert step.embedding.shape == (4, 8)
        assert all(
            image.ndim == dims + 2 for image in method.preview(crops(dims=dims, side=side)).values()
        )


def test_queues_are_used_when_they_are_full():
    method, batch = solid(queue=16, queue_from=0.0), crops(dims=3)
    seen = []
    assign = method._loss.assign
    method._loss.assign = lambda s, q=None: (seen.append(q is not None), assign(s, q))[1]
    for number in range(6):
        method.number = number
        method.step(batch)
    # four rows of volumes a step, eight of slices
    volumes, slices = seen[0::4], seen[2::4]
    assert volumes == [False] * 4 + [True] * 2
    assert slices == [False] * 2 + [True] * 4


@pytest.mark.parametrize(
    ("name", "options"),
    [("unet", {"widths": [4, 8]}), ("slices", {"of_options": {"widths": [4, 8]}})],
)
def test_other_3d_encoders_are_refused(name, options):
    kind = METHODS["image_volume"]
    with pytest.raises(ValueError, match="slices with attention"):
        kind(kind.Config(), build_encoder(name, 3, 1, **options), Samples((16,) * 3, 64))
