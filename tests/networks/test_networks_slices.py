"""The encoder of slices: the contract of every encoder, and what is its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_encoders import SMALL
from torch import Tensor, nn

from medssl.networks import Segmenter, SliceEncoder, build_encoder, pooled
from medssl.networks.slices import DeformableAttention, PlainAttention
from medssl.training.crops import PLANES

KINDS = ["unet", "resnet", "mednext", "vit", "swin"]


def slices(kind: str = "unet", in_channels: int = 1, **more) -> SliceEncoder:
    name, options = SMALL[kind]
    torch.manual_seed(0)
    return build_encoder("slices", 3, in_channels, of=name, of_options=options, heads=2, **more)


@pytest.mark.parametrize("size", [(28, 30, 33), (16, 16, 5)])
@pytest.mark.parametrize("depth", [0, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_maps_are_as_announced(kind: str, depth: int, size: tuple[int, ...]):
    encoder = slices(kind, in_channels=2, depth=depth)
    features = encoder(torch.randn(1, 2, *size))
    assert encoder.strides == build_encoder(SMALL[kind][0], 2, 2, **SMALL[kind][1]).strides
    for feature, channels, stride in zip(features, encoder.channels, encoder.strides, strict=True):
        assert feature.shape == (1, channels, *(-(-n // stride) for n in size))


@pytest.mark.parametrize("attend", ["deformable", "plain"])
def test_the_deepest_map_needs_every_weight_and_every_weight_has_a_layer(attend: str):
    encoder = slices(depth=2, attend=attend)
    encoder(torch.randn(2, 1, 24, 24, 24))[-1].square().sum().backward()
    silent = [n for n, p in encoder.named_parameters() if p.grad is None or not p.grad.any()]
    assert [n for n in silent if not n.endswith(("conv1.bias", "key.bias"))] == []
    layers = [encoder.layer_of(name) for name, _ in encoder.named_parameters()]
    assert sorted(set(layers)) == list(range(encoder.layers))
    assert layers == sorted(layers)


@pytest.mark.parametrize("plane", PLANES)
def test_slices_are_the_pictures_that_2d_crops_of_the_plane_are(plane: str):
    volume = torch.randn(2, 1, 4, 5, 6)
    encoder = slices(plane=plane)
    assert encoder.plane == PLANES[plane]
    made = encoder.pictures(volume)
    across = PLANES[plane][0]
    for number in range(volume.shape[2 + across]):
        # As medssl.training.crops reads a plane: the column's axis comes first in the volume.
        plain = np.take(volume.numpy(), number, axis=2 + across).swapaxes(2, 3)[..., ::-1, ::-1]
        np.testing.assert_array_equal(made[:, number].numpy(), plain)
    assert torch.equal(encoder.volumes(made), volume)


@pytest.mark.parametrize("plane", PLANES)
def test_a_map_is_that_of_the_slices_one_by_one(plane: str):
    encoder, x = slices(plane=plane).eval(), torch.randn(1, 1, 8, 8, 8)
    (across, *_), features = PLANES[plane], encoder(x)
    of = [encoder.of(picture[None]) for picture in encoder.pictures(x)[0]]
    for level, (feature, stride) in enumerate(zip(features, encoder.strides, strict=True)):
        for number in range(8 // stride):
            some = torch.stack([of[number * stride + k][level][0] for k in range(stride)])
            expected = encoder.volumes(some.mean(0)[None, None])
            found = feature.narrow(2 + across, number, 1)
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("attend", ["deformable", "plain"])
def test_pooled_features_are_the_mean_of_attended_slices(attend: str):
    encoder, x = slices(depth=2, attend=attend), torch.randn(2, 1, 16, 16, 8)
    tokens = encoder.tokens(encoder.slice_maps(x)[-1])
    assert tokens.shape == (2, 8, encoder.channels[-1])
    attended = encoder.attended(tokens)
    torch.testing.assert_close(pooled(encoder(x)), attended.mean(1), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(attended, tokens)


@pytest.mark.parametrize("attend", ["deformable", "plain"])
@pytest.mark.parametrize("depth", [0, 1])
def test_slices_know_of_each_other_by_attention_alone(attend: str, depth: int):
    encoder, x = slices(depth=depth, attend=attend), torch.randn(1, 1, 16, 16, 16)
    changed = x.clone()
    changed[..., 15] += 1
    one, other = (encoder(image)[-1][..., 0] for image in (x, changed))
    assert torch.equal(one, other) == (depth == 0)


class Slow(nn.Module):
    """Deformable attention place by place, head by head, in float64."""

    def __init__(self, fast: DeformableAttention) -> None:
        super().__init__()
        self.fast = fast

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        fast, length, width = self.fast, x.shape[1], x.shape[2]
        each = width // fast.heads
        rows = []
        for sample in x:
            placed = sample + positions
            q, k, v = fast.query(placed), fast.key(placed), fast.value(sample)
            keys = -(-length // fast.every)
            padded = torch.zeros(keys * fast.every + 2, width, dtype=x.dtype)
            padded[1 : length + 1] = q
            out = torch.zeros_like(q)
            for head in range(fast.heads):
                part = slice(head * each, (head + 1) * each)
                read = []
                for key in range(keys):
                    seen = padded[key * fast.every : (key + 1) * fast.every + 2]
                    looked = (seen * fast.look.weight[:, 0].T).sum(0) + fast.look.bias
                    moved = nn.functional.gelu(looked) @ fast.move.weight[head, :, 0]
                    moved = (moved + fast.move.bias[head]).tanh() * fast.reach
                    place = key * fast.every + (fast.every - 1) / 2 + float(moved.detach())
                    place = min(max(place, 0.0), length - 1.0)
                    low = min(int(place), max(length - 2, 0))
                    high, share = min(low + 1, length - 1), place - low
                    read.append([(1 - share) * t[low] + share * t[high] for t in (k, v)])
                for at in range(length):
                    logits = torch.stack([q[at, part] @ pair[0][part] for pair in read])
                    weight = (logits / each**0.5).softmax(0)
                    values = torch.stack([pair[1][part] for pair in read])
                    out[at, part] = weight @ values
            rows.append(fast.out(out))
        return torch.stack(rows)


@pytest.mark.parametrize(("length", "every"), [(8, 4), (6, 4), (3, 4), (5, 1), (1, 4)])
def test_deformable_attention_is_the_slow_one(length: int, every: int):
    fast = DeformableAttention(12, 3, every).double()
    fast.move.weight.data *= 20  # far enough to meet the ends
    x, positions = torch.randn(2, length, 12).double(), torch.randn(length, 12).double()
    torch.testing.assert_close(fast(x, positions), Slow(fast)(x, positions), rtol=1e-5, atol=1e-5)
    x.requires_grad_()
    fast(x, positions).square().sum().backward()
    assert bool(fast.move.weight.grad.any()) == (length > 1)


def test_keys_stay_in_reach_and_in_the_sequence():
    attend = DeformableAttention(8, 2, every=4, reach=1.5)
    attend.move.bias.data.copy_(torch.tensor([50.0, -50.0]))  # one head looks ahead, one behind
    places = attend.places(torch.zeros(1, 8, 8))
    torch.testing.assert_close(places[0], torch.tensor([[3.0, 7.0], [0.0, 4.0]]))


def test_plain_attention_is_torchs():
    plain = PlainAttention(12, 3)
    theirs = nn.MultiheadAttention(12, 3, batch_first=True)
    rows = [plain.query, plain.key, plain.value]
    theirs.in_proj_weight.data = torch.cat([row.weight.data for row in rows])
    theirs.in_proj_bias.data = torch.cat([row.bias.data for row in rows])
    theirs.out_proj.load_state_dict(plain.out.state_dict())
    x, positions = torch.randn(2, 5, 12), torch.randn(5, 12)
    expected = theirs(x + positions, x + positions, x)[0]
    torch.testing.assert_close(plain(x, positions), expected, rtol=1e-4, atol=1e-5)


def test_it_segments(capsys):
    model = Segmenter(slices("vit", depth=1), 3)
    assert model(torch.randn(1, 1, 9, 13, 10)).shape == (1, 3, 9, 13, 10)


@pytest.mark.parametrize(
    ("dims", "options", "words"),
    [
        (2, {}, "3D volumes"),
        (3, {"of": "slices"}, "3D volumes"),
        (3, {"of": "nothing"}, "no encoder named"),
        (3, {"plane": "oblique"}, "axial, coronal, sagittal"),
        (3, {"depth": 1, "heads": 5}, "heads"),
        (3, {"depth": 1, "heads": 5, "attend": "plain"}, "heads"),
        (3, {"depth": 1, "every": 0}, "every 1 slice"),
    ],
)
def test_what_cannot_be_is_refused(dims: int, options: dict, words: str):
    with pytest.raises(ValueError, match=words):
        build_encoder("slices", dims, 1, **options)


def test_masked_slices_are_refused():
    encoder, x = slices(), torch.randn(1, 1, 8, 8, 8)
    with pytest.raises(ValueError, match="cannot leave masked positions out"):
        encoder(x, torch.ones(1, 1, 2, 2, 2, dtype=torch.bool))
