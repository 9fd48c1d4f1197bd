"""What is special to Uni4Eye: two decoders, and one encoder for 2D and 3D."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from method_cases import case, crops, make

from medssl.losses import GradientMagnitude
from medssl.methods import METHODS, Samples
from medssl.methods.base import idle
from medssl.networks import build_encoder
from medssl.networks.patches import split_patches
from medssl.views import random_mask


def both(**options):
    """A small one for crops of 3D and 2D in turn, with patches of 4 and of 2."""
    torch.manual_seed(0)
    encoder = build_encoder("vit", 3, 1, patch_size=4, embed_dim=24, depth=2, heads=2)
    config = METHODS["uni4eye"].Config(**(case("uni4eye").options | {"flat_patch": 2} | options))
    return METHODS["uni4eye"](config, encoder, Samples((8, 8, 8), 64, (8, 8), 2))


def batch(dims):
    made = crops(dims=dims, side=8)
    if dims == 2:  # 2D images have two channels here
        made = dataclasses.replace(made, image=torch.cat((made.image, -made.image), dim=1))
    return made


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("normalised", [True, False])
def test_the_loss_is_that_of_hidden_patches_one_by_one(dims, normalised):
    method = make("uni4eye", dims=dims, gradient_weight=0.3, normalise_patches=normalised)
    given = crops(dims=dims)
    step = method.step(given)
    (image,) = method.views(given)
    cells = (4,) * dims
    mask = random_mask(given.draw.fork(1000), cells, 0.75).flatten(1)
    assert mask.sum(1).tolist() == [round(0.75 * 4**dims)] * 4
    losses = dict.fromkeys(("pixels", "gradient"), 0.0)
    for sample in range(4):
        one = image[sample : sample + 1]
        visible = [cell for cell in range(4**dims) if not mask[sample, cell]]
        hidden = [cell for cell in range(4**dims) if mask[sample, cell]]
        patches, positions = method.encoder.patches(one)
        tokens = method.encoder.encode_patches(patches[:, visible], positions[visible])
        assert torch.allclose(step.embedding[sample], tokens.mean(1)[0], atol=1e-6)
        for name, asked in (("pixels", one), ("gradient", GradientMagnitude()(one))):
            decoder = method.decoders[name]
            order = torch.tensor([visible + hidden])
            decoded = decoder.norm(decoder.decode(tokens, cells, order))[0]
            for place, cell in enumerate(hidden, start=len(visible)):
                truth = split_patches(asked, cells)[0, cell].double()
                if normalised:
                    truth = (truth - truth.mean()) / (truth.var(correction=1) + 1e-6).sqrt()
                predicted = method.heads[f"{dims}d"][name](decoded[place])
                losses[name] += F.mse_loss(predicted, truth).detach() / (4 * len(hidden))
    assert float(step.logs["pixels_loss"]) == pytest.approx(float(losses["pixels"]), rel=1e-5)
    assert float(step.logs["gradient_loss"]) == pytest.approx(float(losses["gradient"]), rel=1e-5)
    total = float(losses["pixels"] + 0.3 * losses["gradient"])
    assert float(step.loss.detach()) == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
def test_what_is_hidden_has_no_influence_on_the_features(dims):
    method, given = make("uni4eye", dims=dims), crops(dims=dims)
    method._sides[dims] = dataclasses.replace(method._sides[dims], view=_untouched())
    before = method.step(given)
    mask = random_mask(given.draw.fork(1000), (4,) * dims, 0.75)
    for axis in range(2, dims + 2):
        mask = mask.repeat_interleave(4, dim=axis)
    changed = dataclasses.replace(given, image=given.image.masked_fill(mask, 5.0))
    after = method.step(changed)
    assert torch.equal(before.embedding, after.embedding)
    assert not torch.equal(before.loss, after.loss)


def _untouched():
    from medssl.views import ViewSettings

    return ViewSettings()


def test_without_its_weight_there_is_no_gradient_decoder():
    plain, whole = make("uni4eye", gradient_weight=0), make("uni4eye")
    step = plain.step(crops())
    assert set(step.logs) == {"pixels_loss"}
    assert step.loss == step.logs["pixels_loss"]
    assert [name for name in plain.state_dict() if "gradient" in name] == []
    assert "gradient predicted" not in plain.preview(crops())
    assert "gradient predicted" in whole.preview(crops())


def test_3d_and_2d_go_through_the_same_blocks():
    method = both()
    assert method.other.blocks is method.encoder.blocks
    assert [name for name in method.state_dict() if name.startswith("other.")] == [
        "other.embed.weight",
        "other.embed.bias",
    ]
    for dims in (3, 2):
        method.zero_grad()
        method.step(batch(dims)).loss.backward()
        without = [n for n, p in method.named_parameters() if p.grad is None]
        assert without == []  # several processes wait for every one
        unused = "other.embed" if dims == 3 else "encoder.embed"
        for name, parameter in method.named_parameters():
            other_head = name.startswith(f"heads.{5 - dims}d")
            assert bool(parameter.grad.any()) != (name.startswith(unused) or other_head), name


def test_learning_from_2d_changes_what_3d_gives():
    method = both()
    before = method.encoder(batch(3).image)[-1]
    optimiser = torch.optim.SGD(method.parameters(), lr=0.1)
    method.step(batch(2)).loss.backward()
    optimiser.step()
    assert not torch.allclose(before, method.encoder(batch(3).image)[-1])


def test_both_are_shown_and_both_are_in_the_bundle():
    method = both().eval()
    for dims in (3, 2):
        shown = method.preview(batch(dims))
        assert all(image.ndim == dims + 2 for image in shown.values())
        assert {"original", "pixels predicted", "gradient predicted"} <= set(shown)
    state = method.bundle_state()
    flat = build_encoder("vit", 2, 2, patch_size=2, embed_dim=24, depth=2, heads=2)
    names = {k.removeprefix("other.encoder."): v for k, v in state.items() if k[:6] == "other."}
    flat.load_state_dict(names)
    images = batch(2).image
    assert torch.equal(flat(images)[-1], method.other(images)[-1])


def test_a_2d_view_may_be_its_own():
    plain, turned = both(), both(flat_view={"rotation": 0.0, "scale": (2.0, 2.0)})
    assert torch.equal(plain.views(batch(3))[0], turned.views(batch(3))[0])
    assert not torch.equal(plain.views(batch(2))[0], turned.views(batch(2))[0])


def test_idle_modules_get_zeros():
    used, unused = torch.nn.Linear(2, 2), torch.nn.Linear(3, 1)
    loss = used(torch.ones(2)).sum() + idle(unused)
    loss.backward()
    assert all(not p.grad.any() for p in unused.parameters())
    assert used.weight.grad.any()
    assert idle() == 0
