from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from medssl.views.kspace import Ghost, Motion, Spike, add_motion, add_spike, rigid

SHAPES = [(12, 9), (8, 10, 7)]


def image(size: tuple[int, ...]) -> Tensor:
    return torch.randn(2, 2, *size, generator=torch.Generator().manual_seed(0)) * 3 + 1


@pytest.mark.parametrize("size", SHAPES)
def test_neutral_values_return_the_input(size: tuple[int, ...]):
    x, zero = image(size), torch.zeros(2)
    assert Ghost(zero, torch.tensor([2, 3]), zero).apply(x, None) is x
    assert Spike(zero, torch.ones(2, 3), zero).apply(x, None) is x
    still = torch.zeros(2, 2, 3)
    ends = torch.tensor([[0.3, 0.7], [0.2, 0.9]])
    never = Motion(torch.zeros(2, dtype=torch.bool), still, still, False, ends, zero)
    assert never.apply(x, None) is x
    at_rest = Motion(torch.ones(2, dtype=torch.bool), still, still, False, ends, zero)
    torch.testing.assert_close(at_rest.apply(x, None), x, rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", SHAPES)
def test_ghosts_agree_with_fft(size: tuple[int, ...]):
    x = image(size)
    # Sample 0 along the first axis, sample 1 along the last.
    axis = torch.tensor([0.0, 0.99])
    got = Ghost(torch.tensor([0.8, 0.5]), torch.tensor([2, 3]), axis).apply(x.clone(), None)
    for b, (along, strength, number) in enumerate([(0, 0.8, 2), (len(size) - 1, 0.5, 3)]):
        length = size[along]
        frequency = np.rint(np.abs(np.fft.fftfreq(length)) * length).astype(int)
        gain = np.ones(length)
        for line, k in enumerate(frequency):
            if k % number == 0 and k > max(0.02 * length, 0.5):
                gain[line] -= strength
        shape = [1] * len(size)
        shape[along] = length
        for c in range(2):
            lines = np.fft.fftn(x[b, c].double().numpy()) * gain.reshape(shape)
            expected = np.fft.ifftn(lines)
            assert np.abs(expected.imag).max() < 1e-9
            np.testing.assert_allclose(got[b, c].numpy(), expected.real, atol=1e-4)


def test_a_ghost_lies_where_its_number_says():
    x = torch.zeros(1, 1, 64, 3)
    x[0, 0, 10, 1] = 1.0
    got = Ghost(torch.tensor([0.9]), torch.tensor([4]), torch.zeros(1)).apply(x.clone(), None)
    rest = got[0, 0, :, 1].abs()
    rest[10] = 0
    assert set(rest.topk(3).indices.tolist()) == {(10 + 16 * i) % 64 for i in (1, 2, 3)}


@pytest.mark.parametrize("size", SHAPES)
def test_a_spike_is_one_sample_of_kspace(size: tuple[int, ...]):
    x = image(size)
    strength = torch.tensor([0.5, 2.0])
    frequency = torch.tensor([[0.5, -0.5, 0.7], [-0.2, 0.9, 0.4]])
    phase = torch.tensor([0.3, 2.0])
    got = add_spike(x, strength, frequency, phase)
    for b in range(2):
        cycles = [round(float(f) * (n // 2)) for f, n in zip(frequency[b], size, strict=False)]
        for c in range(2):
            volume = x[b, c].double().numpy()
            lines = np.fft.fftn(volume)
            height = 0.5 * volume.std() * float(strength[b]) * volume.size
            height = height * np.exp(1j * float(phase[b]))
            lines[tuple(k % n for k, n in zip(cycles, size, strict=True))] += height
            lines[tuple(-k % n for k, n in zip(cycles, size, strict=True))] += np.conj(height)
            expected = np.fft.ifftn(lines)
            np.testing.assert_allclose(got[b, c].numpy(), expected.real, atol=1e-4)


def moved(volume: np.ndarray, angles: list[float], shift: list[float], mm: list[float]):
    """The volume under a rigid pose, read with linear interpolation: by scipy."""
    dims = volume.ndim
    turn = np.eye(dims)
    planes = [(0, 1)] if dims == 2 else [(1, 2), (2, 0), (0, 1)]
    for angle, (i, j) in zip(angles, planes, strict=False):
        step = np.eye(dims)
        step[i, i] = step[j, j] = math.cos(angle)
        step[i, j], step[j, i] = -math.sin(angle), math.sin(angle)
        turn = step @ turn
    turn = np.diag(1 / np.array(mm)) @ turn @ np.diag(mm)
    centre = (np.array(volume.shape) - 1) / 2
    offset = centre - turn @ centre + np.array(shift)
    return ndimage.affine_transform(volume, turn, offset, order=1, mode="nearest")


@pytest.mark.parametrize("size", SHAPES)
def test_motion_agrees_with_scipy_and_fft(size: tuple[int, ...]):
    dims = len(size)
    x = image(size)
    angles = torch.tensor([[[0.1, -0.05, 0.2], [0.0, 0.1, 0.1]], [[-0.2, 0.0, 0.0], [0.05] * 3]])
    shift = torch.tensor([[[1.0, 0.5, -0.5], [0.0, -1.0, 0.3]], [[0.2] * 3, [-0.7] * 3]])
    spacing = torch.tensor([[1.0, 2.0, 1.5], [1.0, 1.0, 1.0]])[:, :dims]
    ends = torch.tensor([[0.4, 0.6], [0.25, 0.8]])
    axis = torch.tensor([0, dims - 1])
    got = add_motion(x, angles, shift[..., :dims], spacing, ends, axis)
    for b in range(2):
        along = int(axis[b])
        for c in range(2):
            volume = x[b, c].double().numpy()
            signal = volume - volume.min()
            lines = np.fft.fftn(signal)
            for pose in range(2):
                other = np.fft.fftn(
                    moved(
                        signal,
                        angles[b, pose].tolist(),
                        shift[b, pose, :dims].tolist(),
                        spacing[b].tolist(),
                    )
                )
                for line, f in enumerate(np.fft.fftfreq(size[along])):
                    before = f + 0.5 < float(ends[b, 0]) and pose == 0
                    after = f + 0.5 > float(ends[b, 1]) and pose == 1
                    if before or after:
                        index = (slice(None),) * along + (line,)
                        lines[index] = other[index]
            expected = np.abs(np.fft.ifftn(lines)) + volume.min()
            np.testing.assert_allclose(got[b, c].numpy(), expected, atol=2e-3)


def test_motion_in_mm_is_divided_by_the_spacing():
    x, picked = image((12, 9)), torch.tensor([True, False])
    angles, shift = torch.zeros(2, 2, 3), torch.full((2, 2, 3), 4.0)
    ends, spacing = torch.tensor([[0.4, 0.6]] * 2), torch.full((2, 2), 2.0)
    by_mm = Motion(picked, angles, shift, True, ends, torch.zeros(2)).apply(x.clone(), spacing)
    by_voxel = Motion(picked, angles, shift / 2, False, ends, torch.zeros(2)).apply(
        x.clone(), spacing
    )
    torch.testing.assert_close(by_mm, by_voxel)
    assert torch.equal(by_mm[1], x[1])
    assert float((by_mm[0] - x[0]).abs().mean()) > 0.1


def test_motion_leaves_the_image_where_it_is():
    # A ball that lies elsewhere while the outer lines are read is still seen at its place.
    grid = torch.stack(torch.meshgrid(*[torch.arange(32.0)] * 2, indexing="ij"))
    ball = ((grid - torch.tensor([12.0, 20.0])[:, None, None]).square().sum(0) < 25).float()
    x = ball[None, None]
    shift = torch.full((1, 2, 3), 4.0)
    got = Motion(
        torch.ones(1, dtype=torch.bool),
        torch.zeros(1, 2, 3),
        shift,
        False,
        torch.tensor([[0.42, 0.58]]),
        torch.zeros(1),
    ).apply(x.clone(), None)
    weight = got[0, 0].clamp(min=0.4) - 0.4
    centre = (grid * weight).sum((1, 2)) / weight.sum()
    assert float((centre - torch.tensor([12.0, 20.0])).abs().max()) < 0.7


def test_rigid_is_rigid_in_mm():
    spacing = torch.tensor([[1.0, 2.0, 3.0]])
    matrix = rigid(
        torch.tensor([[0.3, -0.2, 0.5]]), torch.zeros(1, 3), spacing, torch.Size([5] * 3)
    )
    in_mm = torch.diag(spacing[0]) @ matrix[0, :, :3] @ torch.diag(1 / spacing[0])
    torch.testing.assert_close(in_mm @ in_mm.T, torch.eye(3))
    centre = torch.full((3,), 2.0)
    torch.testing.assert_close(matrix[0, :, :3] @ centre + matrix[0, :, 3], centre)
