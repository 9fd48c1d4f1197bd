"""What every encoder has in common stands in test_networks_encoder.py."""

from __future__ import annotations

import pytest
import torch

from medssl.networks import UNetEncoder, build_encoder


def test_odd_sizes_round_up():
    features = UNetEncoder(2, 1, widths=(8, 8, 8))(torch.randn(1, 1, 7, 9))
    assert [tuple(f.shape[2:]) for f in features] == [(7, 9), (4, 5), (2, 3)]


def test_blocks_are_a_number_or_one_for_each_level():
    lists = [UNetEncoder(2, 1, (8, 16, 24), blocks).levels for blocks in (2, [1, 3, 4])]
    assert [[len(level) for level in levels] for levels in lists] == [[2, 2, 2], [1, 3, 4]]  # type: ignore[arg-type]


def test_refusals():
    with pytest.raises(ValueError, match="3D images of 1 channel"):
        UNetEncoder(3, 1)(torch.zeros(1, 1, 8, 8))
    with pytest.raises(ValueError, match="total stride"):
        UNetEncoder(2, 1)(torch.zeros(1, 1, 28, 28), torch.ones(1, 1, 7, 7, dtype=torch.bool))
    with pytest.raises(ValueError, match="2 or 3 dimensions"):
        build_encoder("unet", 4, 1)
