from __future__ import annotations

import pytest
import torch
from small_encoders import SMALL
from torch import Tensor, nn

from medssl.losses import MaskedMSE
from medssl.networks import (
    ConvReconstructor,
    Segmenter,
    Swin,
    TokenReconstructor,
    UNetEncoder,
    ViT,
    build_encoder,
)
from medssl.networks.patches import split_patches
from medssl.networks.vit import sincos_positions


def reconstructors(dims: int) -> list[nn.Module]:
    unet = UNetEncoder(dims, 2, widths=(8, 16, 16))
    vit = ViT(dims, 2, patch_size=4, embed_dim=24, depth=2, heads=2)
    return [
        ConvReconstructor(unet),
        TokenReconstructor(vit, decoder_dim=16, decoder_depth=1, decoder_heads=2),
    ]


def case(dims: int) -> tuple[Tensor, Tensor, Tensor]:
    grid = (4, 3, 2)[:dims]
    cells = 12 if dims == 2 else 24
    order = torch.stack([torch.randperm(cells) for _ in range(3)])
    mask = (order < cells * 3 // 4).reshape(3, 1, *grid)
    x = torch.randn(3, 2, *(4 * n for n in grid))
    hidden = torch.nn.functional.interpolate(mask.float(), size=x.shape[2:]).bool()
    return x, mask, hidden.expand_as(x)


@pytest.mark.parametrize("dims", [2, 3])
def test_reconstruction_depends_on_visible_voxels_alone(dims: int):
    x, mask, hidden = case(dims)
    for model in reconstructors(dims):
        got = model(x, mask)
        assert got.shape == x.shape
        changed = torch.where(hidden, torch.randn_like(x) * 50, x)
        assert torch.equal(model(changed, mask), got)
        assert not torch.allclose(model(torch.where(hidden, x, -x), mask), got)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("kind", ["resnet", "mednext", "vit"])
def test_every_encoder_that_can_leave_positions_out_will_do(kind: str, dims: int):
    name, options = SMALL[kind]
    model = ConvReconstructor(build_encoder(name, dims, 1, **options))
    mask = torch.arange(2**dims).reshape(1, 1, *(2,) * dims) % 3 > 0
    x = torch.randn(1, 1, *(2 * model.encoder.strides[-1],) * dims)
    hidden = torch.nn.functional.interpolate(mask.float(), size=x.shape[2:]).bool()
    got = model(x, mask)
    assert torch.equal(model(torch.where(hidden, torch.randn_like(x) * 50, x), mask), got)
    got[hidden].square().mean().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("dims", [2, 3])
def test_gradient_reaches_every_weight(dims: int):
    x, mask, hidden = case(dims)
    for model in reconstructors(dims):
        model(x, mask)[hidden].square().mean().backward()
        silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
        # A key's bias cannot matter; it is a third of `qkv.bias`, whose rest has a gradient.
        assert silent == []


def test_counting_visible_cells_beforehand_changes_nothing():
    x, mask, _ = case(3)
    for model in reconstructors(3):
        assert torch.equal(model(x, mask, visible_cells=6), model(x, mask))


def test_the_decoder_sees_visible_tokens_then_mask_tokens_each_with_its_position():
    x, mask, _ = case(2)
    model = reconstructors(2)[1]
    seen = {}

    def remember(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen["tokens"] = args[0]

    model.blocks[0].register_forward_pre_hook(remember)
    model(x, mask)
    positions = sincos_positions((4, 3), 16, x.device)
    for b in range(3):
        hidden = mask[b].flatten()
        keep, rest = (~hidden).nonzero()[:, 0], hidden.nonzero()[:, 0]
        alone = model.bridge(model.encoder.encode_tokens(x[b : b + 1], keep[None]))[0]
        expected = torch.cat((alone, model.mask_token.expand(len(rest), -1)))
        expected = expected + positions[torch.cat((keep, rest))]
        torch.testing.assert_close(seen["tokens"][b], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
def test_masked_patches_are_those_of_the_whole_reconstruction(dims: int):
    x, mask, _ = case(dims)
    model = reconstructors(dims)[1]
    grid = mask.shape[2:]
    predicted, target, _ = model.masked_patches(x, mask)
    chosen = mask.flatten(1)
    whole = split_patches(model(x, mask), grid)[chosen].reshape(predicted.shape)
    torch.testing.assert_close(predicted, whole, rtol=1e-4, atol=1e-5)
    assert torch.equal(target, split_patches(x, grid)[chosen].reshape(target.shape))
    for normalise in (False, True):
        loss = MaskedMSE(normalise)
        torch.testing.assert_close(
            loss.of_patches(predicted, target), loss(model(x, mask), x, mask), rtol=1e-5, atol=0
        )


def test_every_patch_learns_from_its_own_place_alone():
    # Changing one masked patch changes its own row of the target and nothing else.
    x, mask, _ = case(2)
    model = reconstructors(2)[1]
    number = int(mask[0].flatten().nonzero()[-1])
    row, column = divmod(number, 3)
    changed = x.clone()
    changed[0, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 1
    (guess, truth, _), (other_guess, other_truth, _) = (
        model.masked_patches(v, mask) for v in (x, changed)
    )
    assert torch.equal(guess, other_guess)
    differs = (truth != other_truth).any(dim=2)
    assert differs.sum() == 1
    assert differs[0, -1]


@pytest.mark.parametrize("dims", [2, 3])
def test_what_is_predicted_may_have_other_channels_on_a_coarser_grid(dims: int):
    x, mask, _ = case(dims)
    coarse = [n // 2 for n in x.shape[2:]]
    unet = UNetEncoder(dims, 2, widths=(8, 16, 16))
    vit = ViT(dims, 2, patch_size=4, embed_dim=24, depth=1, heads=2)
    conv = ConvReconstructor(unet, channels=5, cell=2)
    token = TokenReconstructor(vit, 16, 1, 2, channels=5, cell=2)
    target = torch.randn(3, 5, *coarse)
    for model in (conv, token):
        assert model(x, mask).shape == target.shape
    predicted, asked, _ = token.masked_patches(x, mask, target=target)
    torch.testing.assert_close(
        MaskedMSE().of_patches(predicted, asked), MaskedMSE()(token(x, mask), target, mask)
    )


def test_decoder_weights_transfer_to_the_segmenter_by_name():
    encoder = UNetEncoder(3, 1, widths=(8, 16, 16))
    pretrained = ConvReconstructor(encoder).state_dict()
    target = Segmenter(UNetEncoder(3, 1, widths=(8, 16, 16)), 3).state_dict()
    fits = {
        key
        for key, value in target.items()
        if key in pretrained and pretrained[key].shape == value.shape
    }
    head = {"decoder.head.weight", "decoder.head.bias"}
    assert set(target) - fits == head
    assert set(pretrained) - fits == head | {f"mask_tokens.{level}" for level in range(3)}


def test_both_learn_one_image():
    torch.manual_seed(0)
    x, mask, hidden = case(2)
    for model in reconstructors(2):
        optimiser = torch.optim.AdamW(model.parameters(), 1e-2)
        losses = []
        for _ in range(15):
            loss = (model(x, mask) - x)[hidden].square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
        assert losses[-1] < 0.8 * losses[0]


def test_bf16_autocast_runs():
    x, mask, _ = case(3)
    for model in reconstructors(3):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.isfinite(model(x, mask).float()).all()


def test_refusals():
    x, mask, _ = case(2)
    conv, token = reconstructors(2)
    with pytest.raises(ValueError, match="does not have a grid"):
        token(x[..., :-4], mask)
    uneven = mask.clone()
    uneven[0] = True
    with pytest.raises(ValueError, match="equally many"):
        token(x, uneven)
    with pytest.raises(ValueError, match="total stride"):
        conv(x, mask.repeat_interleave(2, 2))
    with pytest.raises(ValueError, match="leave masked positions out"):
        ConvReconstructor(Swin(2, 1, 2, 12, depths=(1,), heads=(2,), window=4))


@pytest.mark.parametrize("dims", [2, 3])
def test_parts_are_those_of_the_reconstruction(dims: int):
    x, mask, hidden = case(dims)
    for model in reconstructors(dims):
        parts = model.parts(x, mask)
        torch.testing.assert_close(parts.image, model(x, mask))
        assert (parts.queries.shape[1], parts.decoded.shape[1]) == model.widths
        assert parts.queries.shape[2:] == mask.shape[2:]
        changed = model.parts(torch.where(hidden, torch.randn_like(x) * 50, x), mask)
        for one, other in ((parts.pooled, changed.pooled), (parts.decoded, changed.decoded)):
            assert torch.equal(one, other)
        # With the encoder's features of the visible part alone, in both kinds.
        torch.testing.assert_close(parts.pooled.detach(), visible_mean(model, x, mask))
        (parts.pooled.sum() + parts.decoded.sum() + parts.queries.sum()).backward()
        assert all(p.grad is not None for p in model.encoder.parameters())


def visible_mean(model: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    """The mean over visible cells, sample by sample."""
    with torch.no_grad():
        maps = model.encoder(x, ~mask)[-1]
    rows = [m[:, ~hidden[0]].mean(1) for m, hidden in zip(maps, mask, strict=True)]
    return torch.stack(rows)


@pytest.mark.parametrize("dims", [2, 3])
def test_parts_without_a_mask_are_of_whole_images(dims: int):
    x, mask, _ = case(dims)
    for model in reconstructors(dims):
        whole, seen = model.parts(x), model.parts(x, torch.zeros_like(mask))
        assert whole.image is None
        for name in ("pooled", "queries", "decoded"):
            torch.testing.assert_close(
                getattr(whole, name), getattr(seen, name), atol=1e-4, rtol=1e-4
            )
