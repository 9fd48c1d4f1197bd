from __future__ import annotations

import pytest
import torch
from monai.networks.nets import resnet
from torch import Tensor, nn

from medssl.networks import ResNet
from medssl.networks.conv import MaskedNorm

CASES = [
    (2, 10, "small"),
    (3, 10, "small"),
    (2, 10, "classic"),
    (3, 18, "classic"),
    (2, 50, "small"),
]


def group_normed(module: nn.Module) -> None:
    """Put our norm in the place of every batch norm."""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            setattr(module, name, MaskedNorm(child.num_features))
        else:
            group_normed(child)


@pytest.mark.parametrize(("dims", "depth", "stem"), CASES)
def test_it_is_monais_resnet_but_for_the_norm(dims: int, depth: int, stem: str):
    ours = ResNet(dims, 2, depth, 8, stem)  # type: ignore[arg-type]
    layers = {10: [1, 1, 1, 1], 18: [2, 2, 2, 2], 50: [3, 4, 6, 3]}[depth]
    small = stem == "small"
    theirs = resnet.ResNet(
        "bottleneck" if depth == 50 else "basic", layers, [8, 16, 32, 64], dims, 2,
        conv1_t_size=3 if small else 7, conv1_t_stride=1 if small else 2, no_max_pool=small,
        bias_downsample=False, feed_forward=False,
    )  # fmt: skip
    group_normed(theirs)
    values = list(ours.state_dict().values())
    theirs.load_state_dict(dict(zip(theirs.state_dict(), values, strict=True)))
    maps: list[Tensor] = []
    for stage in (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4):
        stage.register_forward_hook(lambda _, __, out: maps.append(out))
    # In float64, where another order of sums shows in no digit that is compared.
    ours, theirs = ours.double(), theirs.double()
    x = torch.randn(1, 2, *(33, 30, 28)[:dims], dtype=torch.float64)
    with torch.no_grad():
        theirs(x)
        for mine, expected in zip(ours(x)[-4:], maps, strict=True):
            torch.testing.assert_close(mine, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(("stem", "deepest"), [("small", 4), ("classic", 1)])
def test_the_stem_decides_what_is_left_of_28_pixels(stem: str, deepest: int):
    features = ResNet(2, 1, 10, 8, stem)(torch.randn(1, 1, 28, 28))  # type: ignore[arg-type]
    assert features[-1].shape[2:] == (deepest, deepest)


def test_no_batch_norm_is_left():
    # Several processes would refuse it, and a batch of two volumes has no statistics.
    assert not [m for m in ResNet(3, 1, 50, 4).modules() if isinstance(m, nn.BatchNorm3d)]


def test_the_names_of_weights_stay_what_bundles_hold():
    names = {f"stages.0.0.block.{part}.weight" for part in ("conv1", "bn1", "conv2", "bn2")}
    names |= {f"stages.1.0.block.downsample.{part}.weight" for part in (0, 1)}
    assert names | {"stem.0.weight", "stem.1.weight"} <= set(ResNet(2, 1, 10, 8).state_dict())
