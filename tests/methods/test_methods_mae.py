from __future__ import annotations

import pytest
import torch
from method_cases import ENCODERS, crops, make

from medssl.losses import MaskedMSE
from medssl.methods import Samples
from medssl.methods.mae import MAE, MAEConfig
from medssl.networks import Segmenter, build_encoder
from medssl.views import upsample_mask


@pytest.mark.parametrize("encoder", ["unet", "vit"])
def test_it_scores_hidden_cells_only(encoder):
    method = make("mae", encoder, mask_ratio=0.5)
    image, mask = method._masked(crops())
    guess = method.reconstructor(image, mask)
    assert mask.float().mean() == 0.5
    cell = 16 // mask.shape[-1]
    hidden = mask.repeat_interleave(cell, 2).repeat_interleave(cell, 3)
    expected = ((guess - image) ** 2)[hidden].mean()
    torch.testing.assert_close(MaskedMSE()(guess, image, mask), expected)
    torch.testing.assert_close(method.step(crops()).loss, expected)


def test_previews_show_the_hidden_cells_and_leave_the_others():
    method = make("mae", dims=3, normalise_patches=True)
    batch = crops(dims=3)
    shown = method.preview(batch)
    assert list(shown) == ["original", "masked", "reconstruction"]
    kept = ~upsample_mask(method._masked(batch)[1], (16, 16, 16))
    assert kept.float().mean() == 1 - round(0.6 * 64) / 64
    for name in ("masked", "reconstruction"):
        assert torch.equal(shown[name][kept], shown["original"][kept])
    assert (shown["masked"][~kept] == shown["original"].min()).all()


def test_bundles_carry_a_decoder_that_fits_the_segmenter():
    state = make("mae", "unet", 3).bundle_state()
    target = Segmenter(build_encoder("unet", 3, 1, **ENCODERS["unet"]), 3).state_dict()
    unfit = [k for k, v in target.items() if k not in state or state[k].shape != v.shape]
    assert unfit == ["decoder.head.weight", "decoder.head.bias"]
    vit = make("mae", "vit", 3).bundle_state()
    assert all(name.startswith("encoder.") for name in vit)


@pytest.mark.parametrize(("cell", "size"), [(3, 16), (2, 16), (8, 20)])
def test_cells_must_fit_patch_and_encoder(cell, size):
    encoder = build_encoder("unet", 2, 1, **ENCODERS["unet"])
    with pytest.raises(ValueError, match="whole number of cells"):
        MAE(MAEConfig(mask_cell=cell), encoder, Samples((size, size)))


@pytest.mark.parametrize("target", ["gradient", "hog"])
@pytest.mark.parametrize("encoder", ["unet", "vit"])
@pytest.mark.parametrize("dims", [2, 3])
def test_other_targets_are_scored_on_hidden_cells_and_shown(encoder, target, dims):
    method, batch = make("mae", encoder, dims, target=target), crops(2, dims)
    image, mask = method._masked(batch)
    asked = method.target(image)
    expected = MaskedMSE()(method.reconstructor(image, mask), asked, mask)
    torch.testing.assert_close(method.step(batch).loss, expected)
    assert asked.shape[1] == {"gradient": 1, "hog": {2: 9, 3: 10}[dims]}[target]
    shown = method.preview(batch)
    assert list(shown) == ["original", "masked", "target", "reconstruction"]
    for b in range(2):
        for end in (torch.min, torch.max):
            torch.testing.assert_close(end(shown["target"][b]), end(shown["original"][b]))
    kept = ~upsample_mask(mask, asked.shape[2:])
    torch.testing.assert_close(shown["reconstruction"][kept], shown["target"][kept])


def test_the_target_changes_no_weight_but_of_the_last_layer():
    for encoder, last in (("unet", "decoder.head."), ("vit", "head.")):
        states = [make("mae", encoder, target=t).state_dict() for t in ("pixels", "hog")]
        assert list(states[0]) == list(states[1])
        differ = [k for k in states[0] if states[0][k].shape != states[1][k].shape]
        assert differ == [f"reconstructor.{last}{part}" for part in ("weight", "bias")]


def test_normalised_patches_of_the_gradient_but_not_of_histograms():
    method = make("mae", target="gradient", normalise_patches=True)
    assert method.step(crops()).loss.isfinite()
    assert method.preview(crops())["reconstruction"].isfinite().all()
    with pytest.raises(ValueError, match="normalised already"):
        make("mae", target="hog", normalise_patches=True)
