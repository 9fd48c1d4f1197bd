from __future__ import annotations

import pytest
import torch
from method_cases import crops, make

from medssl.methods import Samples
from medssl.methods.mp3 import MP3, MP3Config
from medssl.networks import build_encoder
from medssl.networks.patches import split_patches

PLAIN = {"intensity": {"probability": 0.0}, "share": (1.0, 1.0)}


@pytest.mark.parametrize("dims", [2, 3])
def test_the_order_of_the_patches_says_nothing(dims):
    """Tokens move with their patches as long as the same ones are attended to, and positions are
    added to none."""
    method = make("mp3", dims=dims)
    (view,) = method.views(crops(dims=dims))
    order = method._drawn(crops(dims=dims))
    tokens, _ = method._guess(view, order)
    context = method._context
    assert context == order.shape[1] // 2
    moved = torch.cat((torch.arange(context).flip(0), torch.arange(context, order.shape[1])))
    again, _ = method._guess(view, order[:, moved])
    torch.testing.assert_close(again, tokens[:, moved], rtol=1e-4, atol=1e-5)


def test_only_the_context_is_attended_to():
    """The gradient of a token reaches itself and the first `context` patches."""
    method = make("mp3", mask_ratio=0.75)
    order = torch.arange(16).expand(4, -1)
    view = method.views(crops())[0].requires_grad_()
    _, logits = method._guess(view, order)
    logits[:, 10].square().sum().backward()
    reached = split_patches(view.grad, (4, 4)).abs().amax((0, 2)) > 0
    assert reached.nonzero().flatten().tolist() == [0, 1, 2, 3, 10]


def test_answers_are_the_cells_that_patches_were_taken_from():
    method, batch = make("mp3", **PLAIN), crops()
    order = method._drawn(batch)
    assert (order.sort(1).values == torch.arange(16)).all()
    asked = []
    method.encoder.embed.register_forward_pre_hook(lambda _, args: asked.append(args[0]))
    method.step(batch)
    torch.testing.assert_close(
        asked[0],
        torch.stack(
            [
                split_patches(image[None], (4, 4))[0, row]
                for image, row in zip(batch.image, order, strict=True)
            ]
        ),
    )


def test_a_mask_ratio_of_none_attends_to_all():
    method = make("mp3", mask_ratio=0.0)
    assert method._context == 16
    assert method.step(crops()).loss.isfinite()


def test_the_preview_puts_patches_in_place():
    method, batch = make("mp3", **PLAIN).eval(), crops()
    order = method._drawn(batch)
    method._guess = lambda view, order: (None, torch.nn.functional.one_hot(order, 16).float())
    shown = method.preview(batch)
    assert list(shown) == ["view", "attended to", "put in place"]
    torch.testing.assert_close(shown["put in place"], shown["view"])
    cells = split_patches(shown["attended to"], (4, 4)) == split_patches(shown["view"], (4, 4))
    for b in range(4):
        assert set(cells[b].all(1).nonzero().flatten().tolist()) == set(order[b, :8].tolist())


def test_patches_in_one_place_are_averaged_and_empty_places_are_dark():
    method, batch = make("mp3", **PLAIN).eval(), crops()
    method._guess = lambda view, order: (None, torch.nn.functional.one_hot(0 * order, 16).float())
    shown = method.preview(batch)
    found = split_patches(shown["put in place"], (4, 4))
    torch.testing.assert_close(found[:, 0], split_patches(shown["view"], (4, 4)).mean(1))
    assert (found[:, 1:] == shown["view"].amin()).all()


def test_what_it_cannot_train_is_refused_with_a_sentence():
    with pytest.raises(ValueError, match="needs a vision transformer, encoder vit"):
        make("mp3", "unet")
    encoder = build_encoder("vit", 2, 1, patch_size=4, embed_dim=24, depth=1, heads=2)
    with pytest.raises(ValueError, match="whole number of cells"):
        MP3(MP3Config(), encoder, Samples((18, 16)))
    with pytest.raises(ValueError, match="none to attend to"):
        MP3(MP3Config(mask_ratio=0.9), encoder, Samples((8, 8)))
