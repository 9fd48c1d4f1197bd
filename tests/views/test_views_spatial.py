from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from medssl.views import Draw, SpatialParams, SpatialSettings, resample, sample_key, view_to_crop


def draw(n: int) -> Draw:
    return Draw(torch.tensor([sample_key(2, 0, index) for index in range(n)]))


def params(
    dims: int,
    degrees: tuple[float, ...] = (),
    flip: tuple[int, ...] = (),
    scale: float = 1.0,
    shift: tuple[float, ...] = (),
    extent: float | None = None,
    position: tuple[float, ...] = (),
) -> SpatialParams:
    turns = 1 if dims == 2 else 3
    zeros = (0.0,) * dims
    return SpatialParams(
        angles=torch.deg2rad(torch.tensor([degrees or (0.0,) * turns])),
        scale=torch.full((1, dims), scale),
        flip=torch.tensor([[axis in flip for axis in range(dims)]]),
        extent=None if extent is None else torch.full((1, dims), extent),
        position=torch.tensor([position or zeros]),
        shift=torch.tensor([shift or zeros]),
    )


def view(batch: Tensor, p: SpatialParams, size: tuple[int, ...] | None = None, **kwargs) -> Tensor:
    size = size or tuple(batch.shape[2:])
    spacing = kwargs.pop("spacing", None)
    theta = view_to_crop(p, batch.shape[2:], size, spacing)
    return resample(batch, theta, size, **kwargs)


def image(dims: int) -> Tensor:
    shape = (1, 2, 6, 9) if dims == 2 else (1, 2, 6, 9, 5)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("dims", [2, 3])
def test_defaults_return_the_input(dims: int):
    x = image(dims).expand(4, *image(dims).shape[1:])
    p = SpatialParams.draw(draw(4), dims, SpatialSettings())
    torch.testing.assert_close(view(x, p), x, rtol=0, atol=5e-5)


@pytest.mark.parametrize(("dims", "axes"), [(2, (0,)), (2, (0, 1)), (3, (0,)), (3, (1, 2))])
def test_flips_are_torch_flip(dims: int, axes: tuple[int, ...]):
    x = image(dims)
    expected = torch.flip(x, [axis + 2 for axis in axes])
    torch.testing.assert_close(view(x, params(dims, flip=axes)), expected, rtol=0, atol=5e-5)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_quarter_turns_are_rot90_in_2d(turns: int):
    x = torch.randn(1, 1, 7, 7)
    got = view(x, params(2, degrees=(90.0 * turns,)))
    # The view at v shows the crop at R v, so the content turns the other way.
    torch.testing.assert_close(got, torch.rot90(x, -turns, (2, 3)), rtol=0, atol=5e-5)


@pytest.mark.parametrize(("axis", "plane"), [(0, (3, 4)), (1, (4, 2)), (2, (2, 3))])
def test_quarter_turns_are_rot90_in_3d(axis: int, plane: tuple[int, int]):
    x = torch.randn(1, 1, 6, 6, 6)
    degrees = tuple(90.0 if number == axis else 0.0 for number in range(3))
    got = view(x, params(3, degrees=degrees))
    torch.testing.assert_close(got, torch.rot90(x, -1, plane), rtol=0, atol=5e-5)


def test_rotation_of_uneven_voxels_is_rigid_in_mm():
    spacing = torch.tensor([3.0, 1.0, 2.0])
    p = params(3, degrees=(20.0, -35.0, 50.0), flip=(1,))
    theta = view_to_crop(p, (9, 9, 9), (9, 9, 9), spacing)[0].double()
    in_mm = torch.diag(spacing.double()) @ theta[:, :3] @ torch.diag(1 / spacing.double())
    torch.testing.assert_close(in_mm @ in_mm.T, torch.eye(3).double(), rtol=0, atol=1e-6)
    assert float(torch.linalg.det(in_mm)) == pytest.approx(-1.0, abs=1e-6)
    # A quarter turn of voxels of 2 x 1 mm maps 2 voxels along the one onto 4 along the other.
    quarter = view_to_crop(params(2, degrees=(90.0,)), (5, 5), (5, 5), (2.0, 1.0))[0, :, :2]
    torch.testing.assert_close(quarter, torch.tensor([[0.0, -0.5], [2.0, 0.0]]), rtol=0, atol=1e-6)


def test_shift_and_smaller_view_read_the_right_voxels():
    x = image(3)
    got = view(x, params(3, shift=(1 / 6, 0.0, -1 / 5)), size=(4, 9, 3))
    torch.testing.assert_close(got, x[:, :, 2:6, :, 0:3], rtol=0, atol=5e-5)
    corner = view(x, params(3, position=(-1.0, 1.0, -1.0)), size=(4, 4, 4))
    torch.testing.assert_close(corner, x[:, :, :4, 5:, :4], rtol=0, atol=5e-5)


def test_crop_scale_fills_the_view():
    x = torch.arange(64.0).reshape(1, 1, 8, 8)
    half = view(x, params(2, extent=0.5, position=(-1.0, 1.0)), size=(4, 4))
    torch.testing.assert_close(half, x[:, :, :4, 4:], rtol=0, atol=5e-5)
    whole = view(x, params(2, extent=1.0), size=(4, 4))
    torch.testing.assert_close(whole, torch.nn.functional.avg_pool2d(x, 2), rtol=0, atol=1e-4)


def test_scale_magnifies():
    disc = torch.zeros(1, 1, 33, 33)
    disc[..., 12:21, 12:21] = 1.0
    area = view(disc, params(2, scale=2.0)).sum() / disc.sum()
    assert float(area) == pytest.approx(4.0, rel=0.05)


def test_theta_leads_back_to_the_crop():
    # A crop holding its own coordinates: the view then shows what theta says.
    size, crop = (5, 6, 7), (12, 12, 12)
    where = torch.stack(torch.meshgrid(*(torch.arange(12.0),) * 3, indexing="ij"))[None]
    settings = SpatialSettings(rotation=25, scale=(0.9, 1.1), flip_axes=(0, 1, 2))
    p = SpatialParams.draw(draw(3), 3, settings)
    theta = view_to_crop(p, crop, size, (1.0, 2.0, 1.5))
    shown = resample(where.expand(3, -1, -1, -1, -1), theta, size)
    voxels = torch.stack(torch.meshgrid(*(torch.arange(float(n)) for n in size), indexing="ij"))
    expected = (
        torch.einsum("bij,jxyz->bixyz", theta[:, :, :3], voxels) + theta[:, :, 3, None, None, None]
    )
    inside = ((expected >= 0) & (expected <= 11)).all(1, keepdim=True).expand_as(shown)
    assert inside.float().mean() > 0.8
    torch.testing.assert_close(shown[inside], expected[inside], rtol=0, atol=1e-4)


def test_labels_keep_type_and_values():
    label = torch.randint(0, 3, (2, 1, 8, 8, 8), dtype=torch.uint8)
    p = SpatialParams.draw(draw(2), 3, SpatialSettings(rotation=30, scale=(0.8, 1.2)))
    theta = view_to_crop(p, (8, 8, 8), (6, 6, 6))
    got = resample(label, theta, (6, 6, 6), "nearest")
    assert got.dtype == torch.uint8
    assert set(got.unique().tolist()) <= {0, 1, 2}


def test_drawn_parameters_stay_in_their_ranges():
    settings = SpatialSettings(
        rotation=15,
        scale=(0.5, 2.0),
        flip_axes=(1,),
        translation=0.1,
        crop_scale=(0.2, 0.8),
        aspect=1.5,
    )
    p = SpatialParams.draw(draw(500), 3, settings)
    assert float(p.angles.abs().max()) <= math.radians(15)
    assert float(p.angles.abs().max()) > math.radians(14)
    assert float(p.scale.min()) >= 0.5 - 1e-6
    assert float(p.scale.max()) <= 2.0 + 1e-6
    assert abs(float((p.scale > 1).float().mean()) - 0.5) < 0.1
    assert p.flip.any(0).tolist() == [False, True, False]
    assert float(p.shift.abs().max()) <= 0.1
    assert p.extent is not None
    volume = p.extent.prod(1)
    assert float(volume.min()) > 0.2 / 1.5**1.5
    assert float(p.extent.max()) <= 1.0
    never = SpatialParams.draw(
        draw(50), 3, SpatialSettings(rotation=15, scale=(0.5, 2), probability=0)
    )
    assert not never.angles.any()
    assert (never.scale == 1).all()


def test_random_crops_stay_inside():
    p = SpatialParams.draw(draw(200), 2, SpatialSettings(random_position=True))
    theta = view_to_crop(p, (10, 12), (6, 4))
    first, last = theta[:, :, 2], theta[:, :, 2] + torch.tensor([5.0, 3.0])
    assert float(first.min()) >= -1e-4
    assert (last <= torch.tensor([9.0, 11.0]) + 1e-4).all()
    assert (first.amax(0) - first.amin(0) > torch.tensor([3.5, 7.0])).all()


def test_refuses_an_axis_that_is_not_there():
    with pytest.raises(ValueError, match="flipped along axes"):
        SpatialParams.draw(draw(1), 2, SpatialSettings(flip_axes=(2,)))
