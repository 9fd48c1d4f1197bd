from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from medssl.views.smooth import (
    Blur,
    LowResolution,
    ThickSlices,
    along,
    coarse_matrix,
    coarsen,
    equally_sharp,
    gaussian_blur,
    gaussian_matrix,
)


def image(dims: int) -> Tensor:
    shape = (2, 2, 12, 10) if dims == 2 else (2, 2, 12, 10, 8)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 3 + 1


@pytest.mark.parametrize("dims", [2, 3])
def test_blur_agrees_with_scipy(dims: int):
    x = image(dims)
    sigma = torch.tensor([[0.8, 0.0, 3.0], [1.5, 0.3, 0.6]])[:, :dims]
    got = gaussian_blur(x, sigma)
    for b in range(2):
        for c in range(2):
            expected = x[b, c].double().numpy()
            for axis in range(dims):
                # The whole kernel that an axis of n voxels can see: n - 1 to each side.
                expected = ndimage.gaussian_filter1d(
                    expected,
                    max(float(sigma[b, axis]), 1e-4),
                    axis=axis,
                    mode="nearest",
                    radius=expected.shape[axis] - 1,
                )
            torch.testing.assert_close(
                got[b, c].double(), torch.from_numpy(expected), rtol=0, atol=1e-5
            )


@pytest.mark.parametrize("shape", [(3, 2, 100, 70), (2, 1, 40, 30, 70)])
def test_blocks_of_the_matrices_are_all_that_is_not_zero(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    sigma, factor = torch.tensor([0.3, 1.0, 0.6])[: shape[0]], torch.tensor([2.0, 1.0, 3.3])
    blurred, coarse = gaussian_blur(x, sigma[:, None]), coarsen(x, factor[: shape[0]])
    expected = [x, x]
    for axis, n in enumerate(shape[2:]):
        made = gaussian_matrix(sigma, n), coarse_matrix(factor[: shape[0]], n)
        expected = [along(y, matrix, axis) for y, matrix in zip(expected, made, strict=True)]
    torch.testing.assert_close(blurred, expected[0], rtol=0, atol=2e-6)
    torch.testing.assert_close(coarse, expected[1], rtol=0, atol=2e-6)
    for matrix, reach in (
        (gaussian_matrix(torch.ones(1), 100), 8),
        (coarse_matrix(factor, 100), 8),
    ):
        far = (torch.arange(100)[:, None] - torch.arange(100)).abs() > reach
        assert float(matrix[:, far].abs().max()) == 0.0


def test_blur_in_mm_is_divided_by_the_spacing():
    x = image(3)
    sigma = torch.tensor([[2.0, 2.0, 2.0], [1.0, 0.0, 3.0]])
    spacing = torch.tensor([[1.0, 2.0, 4.0], [0.5, 1.0, 3.0]])
    got = Blur(sigma, True).apply(x.clone(), spacing)
    torch.testing.assert_close(got, gaussian_blur(x, sigma / spacing))
    torch.testing.assert_close(
        Blur(sigma, False).apply(x.clone(), spacing), gaussian_blur(x, sigma)
    )
    one = sigma[:, :1]
    torch.testing.assert_close(
        Blur(one, True).apply(x.clone(), spacing), gaussian_blur(x, one / spacing)
    )
    torch.testing.assert_close(gaussian_blur(x, one), gaussian_blur(x, one.expand(-1, 3)))


@pytest.mark.parametrize("dims", [2, 3])
def test_neutral_values_return_the_input(dims: int):
    x = image(dims)
    assert Blur(torch.zeros(2, 3), False).apply(x, None) is x
    one = torch.ones(2)
    assert LowResolution(one).apply(x, None) is x
    assert ThickSlices(one, one * 0).apply(x, None) is x
    assert torch.equal(gaussian_blur(x, torch.zeros(2, dims)), x)
    assert torch.equal(coarsen(x, torch.ones(2)), x)


def test_only_the_picked_samples_are_blurred():
    x = image(2)
    got = Blur(torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]), False).apply(x.clone(), None)
    assert torch.equal(got[0], x[0])
    torch.testing.assert_close(got[1], gaussian_blur(x, torch.ones(2, 2))[1])


def test_low_resolution_by_hand():
    x = (torch.arange(6.0) ** 2).reshape(1, 1, 1, 6).expand(1, 1, 6, 6)
    # Factor 3 along the last axis: coarse voxels hold the means of 0 1 4 and 9 16 25, at 1 and 4.
    low, high = 5 / 3, 50 / 3
    step = (high - low) / 3
    expected = torch.tensor([low, low, low + step, low + 2 * step, high, high])
    got = coarsen(x, torch.tensor([3.0]))[0, 0]
    torch.testing.assert_close(got, expected.expand(6, 6))


def averaged(line: np.ndarray, factor: float) -> np.ndarray:
    """Coarse voxels by integrating the fine ones, then linear interpolation: the slow way."""
    n = len(line)
    count = max(1, round(n / factor))
    edges = np.append(np.arange(count) * factor, float(n))
    total = np.concatenate(([0.0], np.cumsum(line)))
    reach = np.interp(edges, np.arange(n + 1), total)
    means = np.diff(reach) / np.diff(edges)
    return np.interp(np.arange(n) + 0.5, (np.arange(count) + 0.5) * factor, means)


@pytest.mark.parametrize("factor", [1.0, 1.3, 2.0, 2.5, 3.7, 11.0])
def test_low_resolution_agrees_with_integration(factor: float):
    line = np.random.default_rng(0).normal(size=11)
    matrix = coarse_matrix(torch.tensor([factor]), 11)[0].double().numpy()
    np.testing.assert_allclose(matrix @ line, averaged(line, factor), atol=1e-5)
    np.testing.assert_allclose(matrix.sum(1), 1.0, atol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
def test_thick_slices_lie_along_one_axis(dims: int):
    x = image(dims)
    axis = torch.tensor([0.0, 0.999])
    got = ThickSlices(torch.tensor([4.0, 2.0]), axis).apply(x.clone(), None)
    for b, (at, factor) in enumerate([(0, 4.0), (dims - 1, 2.0)]):
        expected = np.apply_along_axis(averaged, at + 1, x[b].numpy(), factor)
        torch.testing.assert_close(got[b], torch.from_numpy(expected).float(), rtol=0, atol=1e-5)


def test_an_image_of_thick_slices_becomes_as_unsharp_along_every_axis():
    """White noise on voxels of 1 x 1 x 4 mm, read at 1 mm: neighbours are alike along one axis."""
    noise = torch.randn(4, 1, 48, 48, 12, generator=torch.Generator().manual_seed(0))
    read = torch.nn.functional.interpolate(noise, (48, 48, 48), mode="trilinear")
    spacing, voxel = torch.tensor([1.0, 1.0, 4.0]).expand(4, -1), torch.ones(4, 3)

    def alike(image: Tensor) -> list[float]:
        """Correlation of voxels that are 2 apart along each axis."""
        inner = image[..., 8:-8, 8:-8, 8:-8]
        found = []
        for axis in (2, 3, 4):
            pair = torch.stack([part.flatten() for part in (
                inner.narrow(axis, 0, 30), inner.narrow(axis, 2, 30),
            )])  # fmt: skip
            found.append(float(pair.corrcoef()[0, 1]))
        return found

    before, after = alike(read), alike(equally_sharp(read.clone(), spacing, voxel))
    assert before[2] - before[0] > 0.5
    assert max(after) - min(after) < 0.1


def test_an_image_of_even_voxels_stays_as_it_was_whatever_the_others_are():
    batch, voxel = image(3), torch.full((2, 3), 2.0)
    spacing = torch.tensor([[2.0, 2.0, 2.0], [1.0, 1.0, 3.0]])
    found = equally_sharp(batch.clone(), spacing, voxel)
    assert torch.equal(found[0], batch[0])
    sigma = torch.tensor([[0.4247 * 8**0.5 / 2, 0.4247 * 8**0.5 / 2, 0.0]])
    torch.testing.assert_close(found[1:], gaussian_blur(batch[1:], sigma))
