"""Whole-volume inference: exact grids, exact labels, and refusals."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from medssl.errors import MedsslError
from medssl.evaluate.inference import classify_volume, resolve_device, segment_volume, volume_logits

STATS: dict[str, float] = {}


class Raw:
    """An intensity contract that changes nothing, so that thresholds are in raw units."""

    def normalise(self, array: np.ndarray, stats: Any) -> np.ndarray:
        return np.asarray(array, np.float32)


def contract(patch: list[int], spacing: list[float] | None = None, channels: int = 1) -> Any:
    return SimpleNamespace(
        dims=len(patch), channels=channels, spacing=spacing, patch_size=patch, intensity=Raw()
    )


class Threshold(nn.Module):
    """Class 1 where the image exceeds `level`; it records the mode and the window shapes."""

    def __init__(self, level: float = 0.5) -> None:
        super().__init__()
        self.level = level
        self.shapes: list[tuple[int, ...]] = []
        self.modes: list[bool] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.shapes.append(tuple(x.shape))
        self.modes.append(self.training)
        return torch.cat([torch.zeros_like(x[:, :1]), x[:, :1] - self.level], dim=1)


class MeanClassifier(nn.Module):
    """Two logits: 0 and the mean of the window."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.flatten(1).mean(1)
        return torch.stack([torch.zeros_like(mean), mean], dim=1)


@pytest.mark.parametrize("shape", [(16, 16, 16), (23, 17, 30), (5, 40, 9)])
def test_every_voxel_gets_its_own_label_whatever_the_volume_size(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).random((1, *shape)).astype(np.float32)
    labels = segment_volume(Threshold(), array, [1, 1, 1], STATS, contract([16, 16, 16]))
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, (array[0] > 0.5).astype(np.uint8))


def test_two_dimensions_go_the_same_way() -> None:
    array = np.random.default_rng(1).random((1, 20, 33)).astype(np.float32)
    labels = segment_volume(Threshold(), array, [1, 1], STATS, contract([16, 16]))
    np.testing.assert_array_equal(labels, (array[0] > 0.5).astype(np.uint8))


def test_windows_are_batched_and_have_the_patch_size() -> None:
    model = Threshold()
    array = np.zeros((1, 24, 16, 16), np.float32)
    segment_volume(model, array, [1, 1, 1], STATS, contract([16, 16, 16]), window_batch=2)
    assert model.shapes == [(2, 1, 16, 16, 16)]


def test_resampling_to_the_contract_spacing_does_not_move_the_label() -> None:
    """A smooth ball at 1.5 x 1 x 2.5 mm, segmented at 1 mm: its centroid stays where it was."""
    spacing = np.array([1.5, 1.0, 2.5])
    shape, centre = (30, 40, 20), np.array([19.0, 22.0, 27.0])
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1) * spacing
    array = (12.0 - np.linalg.norm(grid - centre, axis=-1)).astype(np.float32)[None]
    model = Threshold(0.0)
    labels = segment_volume(
        model, array, spacing.tolist(), STATS, contract([16, 16, 16], [1.0, 1.0, 1.0])
    )
    assert labels.shape == shape
    want = grid[array[0] > 0].mean(0)
    np.testing.assert_allclose(grid[labels == 1].mean(0), want, atol=0.1)
    overlap = 2 * np.sum((labels == 1) & (array[0] > 0))
    assert overlap / (np.sum(labels == 1) + np.sum(array[0] > 0)) > 0.98


def test_the_model_is_evaluated_and_left_in_the_mode_it_had() -> None:
    model = nn.Sequential(Threshold(), nn.Dropout(0.5)).train()
    model[0].eval()
    array = np.ones((1, 16, 16, 16), np.float32)
    segment_volume(model, array, [1, 1, 1], STATS, contract([16, 16, 16]))
    assert model[0].modes == [False]
    assert model.training
    assert model[1].training
    assert not model[0].training


def test_a_model_that_returns_its_input_does_not_corrupt_it() -> None:
    array = np.random.default_rng(2).random((2, 24, 16, 16)).astype(np.float32)
    keep = array.copy()
    logits = volume_logits(
        nn.Identity(), array, [1, 1, 1], STATS, contract([16, 16, 16], channels=2)
    )
    np.testing.assert_array_equal(array, keep)
    np.testing.assert_allclose(logits.numpy(), keep, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "patch"), [((2, 16, 16, 16), [16, 16, 16]), ((1, 16, 16), [16, 16, 16])]
)
def test_wrong_channels_or_dimensions_are_refused(shape: tuple[int, ...], patch: list[int]) -> None:
    with pytest.raises(MedsslError) as caught:
        segment_volume(Threshold(), np.zeros(shape, np.float32), [1] * 3, STATS, contract(patch))
    assert caught.value.code == "CONTRACT_MISMATCH"


def test_class_probabilities_average_the_windows() -> None:
    array = np.zeros((1, 32, 16), np.float32)
    array[:, 16:] = 4.0  # three windows along the rows, means 0, 2, 4: logits average to 2
    probabilities = classify_volume(
        MeanClassifier(), array, [1, 1], STATS, contract([16, 16]), window_batch=2
    )
    want = 1 / (1 + np.exp(-2.0))
    np.testing.assert_allclose(probabilities, [1 - want, want], atol=1e-6)


def test_a_small_image_is_padded_for_classification() -> None:
    array = np.full((1, 8, 16), 2.0, np.float32)
    probabilities = classify_volume(MeanClassifier(), array, [1, 1], STATS, contract([16, 16]))
    want = 1 / (1 + np.exp(-1.0))
    np.testing.assert_allclose(probabilities, [1 - want, want], atol=1e-6)


def test_devices_by_name() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type in ("cpu", "cuda")
    for name in ("cuda:99", "nonsense"):
        with pytest.raises(MedsslError) as caught:
            resolve_device(name)
        assert caught.value.code == "DEVICE_MISSING"
