from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from scipy import ndimage, stats
from torch import Tensor

from medssl.views import Draw, IntensityParams, IntensitySettings, sample_key
from medssl.views.intensity import coarsen, gaussian_blur


def draw(n: int) -> Draw:
    return Draw(torch.tensor([sample_key(3, 0, index) for index in range(n)]))


def image(dims: int, n: int = 2) -> Tensor:
    shape = (n, 2, 12, 10) if dims == 2 else (n, 2, 12, 10, 8)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 3 + 1


def nothing(n: int) -> IntensityParams:
    return IntensityParams.draw(draw(n), IntensitySettings())


@pytest.mark.parametrize("dims", [2, 3])
def test_defaults_and_neutral_values_return_the_input(dims: int):
    x = image(dims)
    assert torch.equal(nothing(2).apply(x), x)
    settings = IntensitySettings(
        probability=0.0,
        contrast=(0.5, 2),
        brightness=1,
        gamma=(0.5, 2),
        noise=1,
        blur=(1, 2),
        low_resolution=(1, 3),
    )
    params = IntensityParams.draw(draw(2), settings)
    assert params.blur is not None
    torch.testing.assert_close(params.apply(x), x, rtol=0, atol=1e-5)


def test_contrast_and_brightness_by_hand():
    x = image(3)
    params = replace(
        nothing(2), contrast=torch.tensor([2.0, 0.5]), brightness=torch.tensor([0.0, 1.0])
    )
    got = params.apply(x)
    for b, (factor, shift) in enumerate([(2.0, 0.0), (0.5, 1.0)]):
        for c in range(2):
            part = x[b, c]
            std = part.std(correction=0)
            expected = (part - part.mean()) * factor + part.mean() + shift * std
            torch.testing.assert_close(got[b, c], expected, rtol=0, atol=1e-5)


def test_gamma_keeps_range_and_bends():
    x = torch.linspace(-1, 3, 5).reshape(1, 1, 1, 5)
    got = replace(nothing(1), gamma=torch.tensor([2.0])).apply(x)
    expected = torch.tensor([-1.0, -0.75, 0.0, 1.25, 3.0]).reshape(1, 1, 1, 5)
    torch.testing.assert_close(got, expected)
    flat = torch.full((1, 1, 4, 4), 2.0)
    assert torch.equal(replace(nothing(1), gamma=torch.tensor([2.0])).apply(flat), flat)


@pytest.mark.parametrize("dims", [2, 3])
def test_blur_agrees_with_scipy(dims: int):
    x = image(dims)
    got = gaussian_blur(x, torch.tensor([0.8, 1.5]), radius=5)
    for b, sigma in enumerate([0.8, 1.5]):
        for c in range(2):
            expected = ndimage.gaussian_filter(
                x[b, c].double().numpy(), sigma, mode="nearest", radius=5
            )
            torch.testing.assert_close(
                got[b, c].double(), torch.from_numpy(expected), rtol=0, atol=1e-5
            )


def test_noise_has_the_asked_spread_and_is_repeatable():
    x = image(3, n=2)
    params = replace(nothing(2), noise=torch.tensor([0.5, 0.0]))
    got = params.apply(x)
    assert torch.equal(got, params.apply(x))
    assert torch.equal(got[1], x[1])
    ratio = (got - x)[0, 0] / x[0, 0].std(correction=0)
    assert stats.kstest(ratio.flatten().numpy() / 0.5, "norm").pvalue > 1e-3


def test_low_resolution_by_hand():
    x = torch.arange(6.0).reshape(1, 1, 1, 6).expand(1, 1, 4, 6) ** 2
    torch.testing.assert_close(coarsen(x, torch.tensor([1.0])), x)
    # Factor 3: coarse voxels at 1 and 4 hold 1 and 16; 5 per voxel between, held at the ends of
    # the grid, where the next coarse voxel is the edge.
    got = coarsen(x, torch.tensor([3.0]))[0, 0, 0]
    torch.testing.assert_close(got[1:5], torch.tensor([1.0, 6.0, 11.0, 16.0]))


def test_probability_and_ranges():
    settings = IntensitySettings(probability=0.3, gamma=(0.5, 2.0), contrast=(0.7, 1.3))
    params = IntensityParams.draw(draw(2000), settings)
    assert params.gamma is not None
    assert params.contrast is not None
    for values, low, high in ((params.gamma, 0.5, 2.0), (params.contrast, 0.7, 1.3)):
        changed = values != 1
        assert abs(float(changed.float().mean()) - 0.3) < 5 * math.sqrt(0.21 / 2000)
        assert float(values.min()) >= low - 1e-6
        assert float(values.max()) <= high + 1e-6
