from __future__ import annotations

import pytest
import torch

from medssl.evaluate.windows import cut, pad_to_patch, padding, window_starts


@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.75])
@pytest.mark.parametrize("size", [(8, 6), (9, 13), (31, 6)])
def test_windows_cover_every_voxel_and_stay_inside(size, overlap):
    patch = (8, 6)
    covered = torch.zeros(1, *size)
    for start in window_starts(size, patch, overlap):
        window = cut(covered, start, patch)
        assert tuple(window.shape) == (1, *patch)
        window += 1
    assert covered.min() >= 1


def test_known_starts():
    assert window_starts((10, 4), (4, 4), 0.0) == [(0, 0), (3, 0), (6, 0)]
    assert window_starts((8,), (4,), 0.5) == [(0,), (2,), (4,)]


def test_padding_puts_half_on_each_side():
    image = torch.arange(1.0, 7.0).reshape(1, 2, 3)
    padded = pad_to_patch(image, (5, 2))
    assert tuple(padded.shape) == (1, 5, 3)
    (top, bottom), (left, right) = padding((2, 3), (5, 2))
    assert (top, bottom, left, right) == (1, 2, 0, 0)
    torch.testing.assert_close(padded[:, top : top + 2], image)
    assert padded.sum() == image.sum()
