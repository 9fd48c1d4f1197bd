from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from medssl.losses import GradientMagnitude, Target


@pytest.mark.parametrize("size", [(5, 7), (4, 6, 5)])
def test_the_gradient_agrees_with_a_loop(size):
    image = torch.randn(2, 2, *size, dtype=torch.float64)
    got = GradientMagnitude()(image)
    padded = image.numpy()
    for place in np.ndindex(*image.shape):
        squares = []
        for axis, n in enumerate(size, start=2):
            before, after = list(place), list(place)
            before[axis], after[axis] = max(place[axis] - 1, 0), min(place[axis] + 1, n - 1)
            step = after[axis] - before[axis]
            squares.append(((padded[tuple(after)] - padded[tuple(before)]) / step) ** 2)
        assert float(got[place]) == pytest.approx(math.sqrt(sum(squares)), abs=1e-12)


def test_the_gradient_of_a_ramp_is_its_slope_whatever_the_brightness():
    rows = torch.arange(6.0)[:, None]
    image = (3 * rows + 4 * rows.T)[None, None]
    for shifted in (image, image + 100, -image, image.transpose(2, 3)):
        torch.testing.assert_close(GradientMagnitude()(shifted), torch.full_like(image, 5.0))
    assert GradientMagnitude()(torch.full((1, 1, 4, 4), 7.0)).abs().max() == 0


def test_targets_carry_no_gradient_and_keep_the_channels():
    image = torch.randn(2, 3, 4, 4, requires_grad=True)
    for target in (Target(), GradientMagnitude()):
        assert not target(image).requires_grad
        assert target(image).shape == image.shape
        assert target.channels(3, 2) == 3
        assert target.cell == 1
    assert torch.equal(Target()(image), image)
    assert GradientMagnitude()(image.bfloat16()).dtype == torch.float32


def test_a_line_of_one_voxel_has_no_gradient():
    with pytest.raises(ValueError, match="has no gradient"):
        GradientMagnitude()(torch.zeros(1, 1, 1, 4))
