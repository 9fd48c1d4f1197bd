import pytest
import torch

from medssl.errors import MedsslError
from medssl.losses import MaskedMSE, NTXent
from medssl.methods import METHODS, method_class
from medssl.methods.mae import MAE, MAEConfig
from medssl.methods.simclr import SimCLR, SimCLRConfig
from medssl.networks import Segmenter, build_encoder, pooled
from medssl.views import Draw, sample_key, upsample_mask

VIT = {"patch_size": 4, "embed_dim": 24, "depth": 1, "heads": 2}
UNET = {"widths": [4, 8, 8]}


def crops(dims, count=3):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 1, *[16] * dims, generator=generator)


def keys(count=3, first=0):
    return torch.tensor([sample_key(0, 0, first + i) for i in range(count)])


def make(name, encoder, dims, **options):
    torch.manual_seed(0)
    kind = method_class(name)
    built = build_encoder(encoder, dims, 1, **(VIT if encoder == "vit" else UNET))
    return kind(kind.Config(**options), built, [16] * dims)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("encoder", ["unet", "vit"])
@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_step_depends_on_the_keys_alone_and_reaches_the_encoder(name, encoder, dims):
    method = make(name, encoder, dims)
    spacing = torch.ones(3, dims)
    first = method.step(crops(dims), Draw(keys(), 1), spacing)
    again = method.step(crops(dims), Draw(keys(), 1), spacing)
    other = method.step(crops(dims), Draw(keys(first=9), 1), spacing)
    assert torch.equal(first.loss, again.loss)
    assert not torch.equal(first.loss, other.loss)
    first.loss.backward()
    moved = [n for n, p in method.encoder.named_parameters() if p.grad is not None and p.grad.any()]
    assert len(moved) > 0.8 * len(list(method.encoder.parameters()))


@pytest.mark.parametrize("encoder", ["unet", "vit"])
def test_mae_scores_hidden_cells_only(encoder):
    method = make("mae", encoder, 2, mask_ratio=0.5)
    image, mask = method._masked(crops(2), Draw(keys(), 1), torch.ones(3, 2))
    guess = method.reconstructor(image, mask)
    assert mask.float().mean() == 0.5
    cell = 16 // mask.shape[-1]
    hidden = mask.repeat_interleave(cell, 2).repeat_interleave(cell, 3)
    expected = ((guess - image) ** 2)[hidden].mean()
    torch.testing.assert_close(MaskedMSE()(guess, image, mask), expected)
    loss = method.step(crops(2), Draw(keys(), 1), torch.ones(3, 2)).loss
    torch.testing.assert_close(loss, expected)


def test_mae_previews_show_the_hidden_cells_and_leave_the_others():
    method = make("mae", "unet", 3, normalise_patches=True)
    shown = method.preview(crops(3), Draw(keys(), 1), torch.ones(3, 3))
    assert list(shown) == ["original", "masked", "reconstruction"]
    mask = method._masked(crops(3), Draw(keys(), 1), torch.ones(3, 3))[1]
    kept = ~upsample_mask(mask, (16, 16, 16))
    assert kept.float().mean() == 1 - round(0.6 * 64) / 64
    for name in ("masked", "reconstruction"):
        assert torch.equal(shown[name][kept], shown["original"][kept])
    assert (shown["masked"][~kept] == shown["original"].min()).all()


def test_simclr_is_nt_xent_of_its_two_views():
    method = make("simclr", "unet", 2, temperature=0.5).eval()
    first, second = method.views(crops(2), Draw(keys(), 1), torch.ones(3, 2))
    assert not torch.equal(first, second)
    z = [method.projector(pooled(method.encoder(view))) for view in (first, second)]
    step = method.step(crops(2), Draw(keys(), 1), torch.ones(3, 2))
    torch.testing.assert_close(step.loss, NTXent(0.5)(*z))
    assert step.embedding.shape == (3, 8)


def test_mae_bundles_carry_a_decoder_that_fits_the_segmenter():
    state = make("mae", "unet", 3).bundle_state()
    target = Segmenter(build_encoder("unet", 3, 1, **UNET), 3).state_dict()
    unfit = [k for k, v in target.items() if k not in state or state[k].shape != v.shape]
    assert unfit == ["decoder.head.weight", "decoder.head.bias"]
    vit = make("mae", "vit", 3).bundle_state()
    assert all(name.startswith("encoder.") for name in vit)


@pytest.mark.parametrize(("cell", "size"), [(3, 16), (2, 16), (8, 20)])
def test_cells_must_fit_patch_and_encoder(cell, size):
    with pytest.raises(ValueError, match="whole number of cells"):
        MAE(MAEConfig(mask_cell=cell), build_encoder("unet", 2, 1, **UNET), [size, size])


def test_configs_refuse_what_they_do_not_know():
    for config in (MAEConfig, SimCLRConfig):
        with pytest.raises(ValueError, match="extra"):
            config(temprature=1)
    with pytest.raises(MedsslError, match="METHOD_UNKNOWN"):
        method_class("dino-9")
    assert METHODS["simclr"] is SimCLR
