from __future__ import annotations

import pytest
from method_cases import ENCODERS

from medssl.losses import HOG, GradientMagnitude
from medssl.methods.masked import cells_of, target_of
from medssl.networks import ViT, build_encoder


def test_cells_are_the_encoders_stride_or_a_multiple():
    encoder = build_encoder("unet", 2, 1, **ENCODERS["unet"])  # of stride 4
    assert cells_of((16, 24), 0, encoder) == (4, 6)
    assert cells_of((16, 24), 8, encoder) == (2, 3)
    for size, cell in (((16, 24), 3), ((16, 24), 2), ((16, 20), 8)):
        with pytest.raises(ValueError, match="whole number of cells"):
            cells_of(size, cell, encoder)


@pytest.mark.parametrize(("stride", "cell"), [(2, 2), (4, 4), (7, 7), (8, 4), (14, 7), (16, 8)])
def test_histograms_are_of_half_a_stride_where_that_is_enough(stride: int, cell: int):
    encoder = ViT(2, 1, patch_size=stride, embed_dim=8, depth=1, heads=1)
    target = target_of("hog", encoder)
    assert isinstance(target, HOG)
    assert target.cell == cell
    assert isinstance(target_of("gradient", encoder), GradientMagnitude)
    assert target_of("pixels", encoder).cell == 1
