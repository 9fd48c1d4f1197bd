from __future__ import annotations

import pytest
import torch
from scipy import ndimage
from torch import Tensor

from medssl.views import Draw, SpatialParams, SpatialSettings, resample, sample_key, view_to_crop
from medssl.views.resampling import copy_voxels
from medssl.views.spatial import displacement
from medssl.views.view import View, positions

MOVED = SpatialSettings(rotation=40, scale=(0.7, 1.3), flip_axes=(0,), elastic=2.0, shear=10)


def draw(n: int) -> Draw:
    return Draw(torch.tensor([sample_key(5, 0, index) for index in range(n)]))


def image(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def maps(n: int, crop: tuple[int, ...], size: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    params = SpatialParams.draw(draw(n), len(size), MOVED)
    theta = view_to_crop(params, crop, size)
    moved = displacement(params, theta, size)
    assert moved is not None
    return theta, moved


@pytest.mark.parametrize("padding", ["border", "reflection", "zeros"])
@pytest.mark.parametrize("size", [(9, 7), (9, 7, 8)])
def test_agrees_with_scipy(size: tuple[int, ...], padding: str):
    crop = (10, 12, 6)[: len(size)]
    x = image(2, 2, *crop)
    theta, moved = maps(6, crop, size)
    got = resample(x, theta, size, "linear", padding, moved)
    assert got.shape == (6, 2, *size)
    empty = torch.empty(6, 1, *size)
    where = positions(View(empty, theta, displacement=moved)).double().numpy()
    mode = {"border": "nearest", "reflection": "reflect", "zeros": "constant"}[padding]
    for row in range(6):
        for channel in range(2):
            source = x[row % 2, channel].double().numpy()
            if padding == "zeros":  # scipy does not blend beyond the last voxel, torch does
                source = ndimage.map_coordinates(
                    torch.nn.functional.pad(x[row % 2, channel], (2,) * 2 * len(crop)).numpy(),
                    where[row] + 2,
                    order=1,
                    mode=mode,
                )
                expected = source
            else:
                expected = ndimage.map_coordinates(source, where[row], order=1, mode=mode)
            torch.testing.assert_close(
                got[row, channel].double(),
                torch.from_numpy(expected).double(),
                rtol=0,
                atol=2e-4,
            )


@pytest.mark.parametrize("crop", [(2, 9, 9), (9, 1, 9), (9, 9, 1), (1, 9, 9), (9, 2, 2)])
def test_thin_volumes(crop: tuple[int, ...]):
    x = image(2, 1, *crop)
    theta, moved = maps(2, crop, (6, 5, 4))
    got = resample(x, theta, (6, 5, 4), displacement=moved)
    where = positions(View(got, theta, displacement=moved)).double().numpy()
    for row in range(2):
        expected = ndimage.map_coordinates(
            x[row, 0].double().numpy(), where[row], order=1, mode="nearest"
        )
        torch.testing.assert_close(
            got[row, 0].double(), torch.from_numpy(expected), rtol=0, atol=1e-4
        )


@pytest.mark.parametrize("dtype", [torch.int16, torch.uint16, torch.uint8, torch.float16])
def test_any_type_any_layout(dtype: torch.dtype):
    x = (image(3, 1, 8, 8, 8).abs() * 100).to(dtype)
    theta, moved = maps(6, (8, 8, 8), (5, 6, 7))
    expected = resample(x.float(), theta, (5, 6, 7), displacement=moved)
    assert torch.equal(resample(x, theta, (5, 6, 7), displacement=moved), expected)
    turned = x.transpose(2, 4).contiguous().transpose(2, 4)
    assert torch.equal(resample(turned, theta, (5, 6, 7), displacement=moved), expected)


def test_a_lone_crop_and_a_crop_of_a_batch_give_the_same():
    x = image(4, 1, 9, 9, 9)
    theta, moved = maps(8, (9, 9, 9), (6, 6, 6))
    together = resample(x, theta, (6, 6, 6), displacement=moved)
    for sample in (0, 3):
        rows = [sample, sample + 4]
        alone = resample(x[sample, None], theta[rows], (6, 6, 6), displacement=moved[rows])
        torch.testing.assert_close(alone, together[rows], rtol=0, atol=1e-6)


def test_places_in_a_large_crop_are_right_to_a_thousandth_of_a_voxel():
    crop = (96, 96, 24)
    axes = [torch.arange(float(n)) for n in crop]
    x = torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]
    theta = view_to_crop(
        SpatialParams.draw(draw(2), 3, SpatialSettings(rotation=20, scale=(0.9, 1.1))),
        crop,
        (48, 48, 24),
    )
    got = resample(x, theta, (48, 48, 24))
    expected = positions(View(got, theta))
    for axis, length in enumerate(crop):
        error = (got[:, axis] - expected[:, axis].clamp(0, length - 1)).abs()
        assert float(error.max()) < 1.1e-3
        assert float(error.mean()) < 2e-4


def _places(size: tuple[int, ...], settings: SpatialSettings, crop: tuple[int, ...]) -> Tensor:
    return view_to_crop(SpatialParams.draw(draw(8), len(size), settings), crop, size)


@pytest.mark.parametrize("padding", ["border", "reflection", "zeros"])
@pytest.mark.parametrize("size", [(5, 9), (5, 9, 12)])
def test_copied_voxels_are_what_resampling_reads(size: tuple[int, ...], padding: str):
    crop = (8, 8, 8)[: len(size)]
    settings = SpatialSettings(flip_axes=(0, 1), translation=0.4, random_position=True)
    assert settings.on_grid
    theta = _places(size, settings, crop)
    x = image(4, 2, *crop)
    got = copy_voxels(x, theta, size, padding)
    expected = resample(x, theta, size, "linear", padding)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)
    assert torch.isin(got, torch.cat((x.flatten(), torch.zeros(1)))).all()
