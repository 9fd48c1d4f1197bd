from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from method_cases import crops, make

from medssl.methods import Crops, Samples
from medssl.methods.rotation import Rotation, RotationConfig
from medssl.networks import build_encoder
from medssl.views import Draw, sample_key

PLAIN = {"intensity": {"probability": 0.0}, "share": (1.0, 1.0)}


@pytest.mark.parametrize("dims", [2, 3])
def test_the_view_is_the_part_of_the_crop_turned_as_drawn(dims):
    method, batch = make("rotation", dims=dims, **PLAIN), crops(32, dims)
    (view,) = method.views(batch)
    drawn = method._drawn(batch)
    assert len(method.rotations) == {2: 4, 3: 24}[dims]
    assert len(drawn.unique()) > {2: 3, 3: 12}[dims]
    grid = torch.stack(torch.meshgrid(*[torch.arange(16)] * dims, indexing="ij")).float() - 7.5
    upright = method._upright(batch)
    torch.testing.assert_close(upright, batch.image, rtol=0, atol=1e-3)
    for k in range(4):
        # A voxel that is u from the centre holds what was R^-1 u from it.
        source = torch.einsum("ji,j...->i...", method.rotations[drawn[k]].float(), grid) + 7.5
        assert torch.equal(view[k, 0], upright[k, 0][tuple(source.long())])


def test_a_crop_of_unequal_sides_is_cut_to_the_shortest():
    encoder = build_encoder("unet", 3, 1, widths=[4, 8])
    method = Rotation(RotationConfig(**PLAIN), encoder, Samples((16, 12, 20)))
    batch = crops(4, 3)
    batch = replace(batch, image=torch.nn.functional.pad(batch.image, (0, 4))[:, :, :, :12])
    assert batch.image.shape[2:] == (16, 12, 20)
    (view,) = method.views(batch)
    assert view.shape[2:] == (12, 12, 12)
    first, last = method.part(batch, cube=True)
    torch.testing.assert_close(last - first, torch.full((4, 3), 12.0))


def test_a_view_has_one_spacing_whatever_the_crop_s():
    """A ramp in mm along each axis is as steep along each axis of the view."""
    method = make("rotation", dims=3, **PLAIN)
    spacing = torch.tensor([1.0, 1.0, 4.0])
    ramps = torch.stack(torch.meshgrid(*[torch.arange(16.0)] * 3, indexing="ij"))
    image = (ramps * spacing[:, None, None, None]).unsqueeze(1)  # one axis a sample
    batch = crops(3, 3)
    place = torch.cat((torch.diag(spacing), spacing[:, None] / 2), dim=1).expand(3, -1, -1)
    extent = (16 * spacing).expand(3, -1)
    batch = replace(batch, image=image, spacing=spacing.expand(3, -1), place=place, extent=extent)
    upright = method._upright(batch)[:, 0]
    for axis in range(3):
        steps = upright[axis].diff(dim=axis)[5:-5, 5:-5, 5:-5]  # the blur repeats the edge
        assert steps.amin() > 0.99
        assert steps.amax() < 1.01


def told_of_noise(stretch: float, size=(40, 40), share=(0.7, 1.0)) -> float:
    """The accuracy that a network reaches on pixels of 1 x `stretch` mm that mean nothing."""
    torch.manual_seed(0)
    encoder = build_encoder("unet", 2, 1, widths=[8, 16])
    method = Rotation(RotationConfig(share=share), encoder, Samples((16, 16)))
    optimiser = torch.optim.AdamW(method.parameters(), 3e-3)
    spacing, right = torch.tensor([1.0, stretch]).expand(32, -1), []
    for step in range(100):
        generator = torch.Generator().manual_seed(step)
        keys = torch.tensor([sample_key(0, step, number) for number in range(32)])
        image = torch.randn(32, 1, *size, generator=generator)
        done = method.step(Crops.whole(image, Draw(keys), spacing, torch.arange(32)))
        optimiser.zero_grad()
        done.loss.backward()
        optimiser.step()
        right.append(done.logs["accuracy"])
    return float(torch.stack(right[-50:]).mean())


def test_of_noise_no_rotation_can_be_told(monkeypatch):
    """Nor where crops have an axis without room, or uneven voxels; but for the blur, the axis of
    the long ones would be seen."""
    assert 0.21 < told_of_noise(1.0, (16, 24), (1.0, 1.0)) < 0.28
    assert 0.21 < told_of_noise(3.0) < 0.29
    monkeypatch.setattr("medssl.methods.rotation.equally_sharp", lambda view, *_: view)
    assert told_of_noise(3.0) > 0.4


def test_about_one_axis_this_axis_stays():
    method, batch = make("rotation", dims=3, axis=2, **PLAIN), crops(8, 3)
    assert method.step(batch).trivial_loss == pytest.approx(1.3862944)
    ramp = torch.arange(16.0).expand(8, 1, 16, 16, 16)
    (view,) = method.views(replace(batch, image=ramp))
    torch.testing.assert_close(view, ramp.clone())
    with pytest.raises(ValueError, match="cannot be turned"):
        make("rotation", dims=2, axis=1)


def test_the_preview_turns_back_what_is_guessed_right():
    method, batch = make("rotation", dims=3, **PLAIN).eval(), crops(6, 3)
    drawn = method._drawn(batch)
    method._guess = lambda view: (None, torch.nn.functional.one_hot(drawn, 24).float())
    shown = method.preview(batch)
    assert list(shown) == ["crop", "part", "turned", "turned back"]
    assert torch.equal(shown["turned back"], shown["part"])
    assert not torch.equal(shown["turned"], shown["part"])


def test_an_encoder_that_cannot_read_the_cube_is_refused():
    encoder = build_encoder("swin", 2, 1, patch_size=2, embed_dim=12, depths=[2], heads=[2])

    def refuse(x, visible=None, mask_token=None):
        raise ValueError("too small")

    encoder.forward = refuse
    with pytest.raises(ValueError, match=r"no views of \[8, 8\] voxels .*take another patch_size"):
        Rotation(RotationConfig(), encoder, Samples((8, 16)))
