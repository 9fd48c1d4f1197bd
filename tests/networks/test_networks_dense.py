from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from small_encoders import SMALL

from medssl.networks import DenseEmbedder, DenseProjector, Projector, build_encoder, pooled


@pytest.mark.parametrize("dims", [2, 3])
def test_it_is_a_convolution_of_one_voxel_with_batch_norm(dims: int):
    torch.manual_seed(0)
    encoder = build_encoder("unet", dims, 1, widths=[4, 6])
    head = DenseProjector(encoder, 1, 5, 3)
    features = encoder(torch.randn(2, 1, *(8,) * dims))
    linear, norm, _, last = head.mlp
    kind = F.conv2d if dims == 2 else F.conv3d
    ones = (1,) * dims
    x = kind(features[1], linear.weight.reshape(5, 6, *ones))
    x = F.relu(F.batch_norm(x, None, None, norm.weight, norm.bias, training=True))
    x = kind(x, last.weight.reshape(3, 5, *ones), last.bias)
    torch.testing.assert_close(head(features), x.flatten(2).transpose(1, 2))


def test_coarser_maps_are_read_at_the_place_of_the_cell():
    encoder = build_encoder("unet", 2, 1, widths=[1, 1, 1])
    head = DenseProjector(encoder, 0, 1, 3, layers=1)
    with torch.no_grad():
        head.mlp[0].weight.copy_(torch.eye(3))
        head.mlp[0].bias.zero_()
    size = (6, 5)  # divided by no stride: maps of 6 x 5, 3 x 3 and 2 x 2
    maps = [torch.randn(2, 1, -(-6 // s), -(-5 // s)) for s in (1, 2, 4)]
    rows = head(maps).reshape(2, *size, 3)
    for i in range(6):
        for j in range(5):
            there = torch.stack(
                [m[:, 0, i // s, j // s] for m, s in zip(maps, (1, 2, 4), strict=True)]
            )
            torch.testing.assert_close(rows[:, i, j], there.T)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_every_map_of_every_encoder_has_cells_and_the_deepest_layers_learn(name: str):
    family, options = SMALL[name]
    encoder = build_encoder(family, 2, 1, **options)
    for level, (stride, width) in enumerate(zip(encoder.strides, encoder.channels, strict=True)):
        encoder.zero_grad()
        embedder = DenseEmbedder(
            encoder,
            DenseProjector(encoder, level, 8, 5),
            Projector(encoder.channels[-1], 8, 4),
            level,
        )
        image = torch.randn(2, 1, 32, 32)
        means, whole, local, cells = embedder(image)
        count = (32 // stride) ** 2
        assert [part.shape for part in (means, whole)] == [(2, encoder.channels[-1]), (2, 4)]
        assert [part.shape for part in (local, cells)] == [(2, count, width), (2, count, 5)]
        features = encoder(image)
        torch.testing.assert_close(means, pooled(features))
        torch.testing.assert_close(local[:, -1], features[level].flatten(2)[..., -1])
        cells.sum().backward()
        assert all(p.grad is not None for p in encoder.parameters())
