"""Images in any orientation come back labelled on their own grid."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
import torch

from medssl.bundle import InputContract
from medssl.predict.cases import Image
from medssl.predict.sliding import classify_image, segment_image
from medssl.store.intensity import IntensityContract

CPU = torch.device("cpu")


def contract(dims: int, spacing: list[float] | None = None) -> InputContract:
    intensity = IntensityContract(scheme="window", low=0.0, high=200.0)
    return InputContract(dims=dims, patch_size=[16] * dims, intensity=intensity, spacing=spacing)


class OrderLevels(torch.nn.Module):
    """Labels voxels by intensity, and notes the input it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen = x.clone()
        return torch.cat([torch.zeros_like(x), x], dim=1)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_every_orientation_returns_to_its_own_grid(order: tuple[int, ...]) -> None:
    shape = (7, 9, 11)
    array = np.random.default_rng(0).integers(0, 200, (1, *shape)).astype(np.int16)
    for signs in product((-1.0, 1.0), repeat=3):
        affine = np.eye(4)
        affine[:3, :3] = 0.0
        for axis, (to, sign) in enumerate(zip(order, signs, strict=True)):
            affine[to, axis] = sign * (1.0 + axis)
        affine[:3, 3] = (3.0, -4.0, 5.0)
        image = Image(array, affine, (1.0, 2.0, 3.0))
        labels = segment_image(OrderLevels(), image, contract(3), CPU)
        np.testing.assert_array_equal(labels, array[0] > 100)


@pytest.mark.parametrize("angles", [(45.0, 0.0), (45.0, 45.0), (30.0, 60.0)])
def test_oblique_grids_on_the_edge_between_two_orientations(angles: tuple[float, float]) -> None:
    a, b = np.radians(angles)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    tip = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3] = tip @ turn
    array = np.random.default_rng(0).integers(0, 200, (1, 7, 9, 11)).astype(np.int16)
    labels = segment_image(OrderLevels(), Image(array, affine, (1.0,) * 3), contract(3), CPU)
    np.testing.assert_array_equal(labels, array[0] > 100)


def test_the_network_sees_ras() -> None:
    array = np.zeros((1, 16, 16, 16), np.int16)
    array[0, 2, 3, 4] = 200  # in LPS: x to the left, y to the back
    model = OrderLevels()
    segment_image(
        model, Image(array, np.diag([-1.0, -1.0, 1.0, 1.0]), (1.0,) * 3), contract(3), CPU
    )
    assert model.seen is not None
    assert torch.argwhere(model.seen[0, 0] > 0).tolist() == [[13, 12, 4]]


def test_anisotropic_spacing_follows_its_axis() -> None:
    """At 4 mm along the array's first axis, which runs to the front, the contract wants 1 mm."""
    affine = np.zeros((4, 4))
    affine[1, 0], affine[0, 1], affine[2, 2], affine[3, 3] = 4.0, 1.0, 1.0, 1.0
    array = np.zeros((1, 4, 16, 16), np.int16)
    array[0, 2:] = 200
    model = OrderLevels()
    image = Image(array, affine, (4.0, 1.0, 1.0))
    labels = segment_image(model, image, contract(3, [1.0, 1.0, 1.0]), CPU)
    assert model.seen is not None
    assert model.seen.shape[2:] == (16, 16, 16)
    np.testing.assert_array_equal(labels, array[0] > 100)


def test_classification_sees_ras_too() -> None:
    class Corner(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            first = x[:, 0, 0, 0, 0]
            return torch.stack([torch.zeros_like(first), first], dim=1)

    array = np.zeros((1, 16, 16, 16), np.int16)
    array[0, -1, -1, 0] = 200
    lps = Image(array, np.diag([-1.0, -1.0, 1.0, 1.0]), (1.0,) * 3)
    probabilities = classify_image(Corner(), lps, contract(3), CPU)
    np.testing.assert_allclose(probabilities[1], 1 / (1 + np.exp(-1.0)), atol=1e-6)
