from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from medssl.views import cube_rotations, rotate


@pytest.mark.parametrize(("dims", "count"), [(2, 4), (3, 24)])
def test_they_are_the_rotations_of_a_square_and_a_cube(dims, count):
    found = cube_rotations(dims)
    assert found.shape == (count, dims, dims)
    assert torch.equal(found[0], torch.eye(dims, dtype=torch.int64))
    assert len({tuple(matrix.flatten().tolist()) for matrix in found}) == count
    for matrix in found:
        assert round(np.linalg.det(matrix.numpy())) == 1
        assert torch.equal(matrix @ matrix.T, torch.eye(dims, dtype=torch.int64))
    known = {tuple(matrix.flatten().tolist()) for matrix in found}
    for first, second in itertools.product(found, repeat=2):
        assert tuple((first @ second).flatten().tolist()) in known


def test_about_one_axis_there_are_four():
    for axis in range(3):
        found = cube_rotations(3, axis)
        assert len(found) == 4
        assert (found[:, axis, axis] == 1).all()
        # A quarter turn, done again and again, gives them all.
        quarter = next(m for m in found if m.diagonal().sum() == 1)
        powers = [torch.linalg.matrix_power(quarter, k) for k in range(4)]
        assert {str(m.tolist()) for m in powers} == {str(m.tolist()) for m in found}


@pytest.mark.parametrize(("dims", "axis"), [(1, None), (4, None), (2, 0), (3, 3)])
def test_other_groups_are_refused(dims, axis):
    with pytest.raises(ValueError, match="cannot be turned"):
        cube_rotations(dims, axis)


def quarter_turn(dims: int, axes: tuple[int, int]) -> torch.Tensor:
    """From the first of the axes to the second."""
    matrix = torch.eye(dims, dtype=torch.int64)
    i, j = axes
    matrix[i, i] = matrix[j, j] = 0
    matrix[j, i], matrix[i, j] = 1, -1
    return matrix


@pytest.mark.parametrize("side", [4, 5])
@pytest.mark.parametrize("dims", [2, 3])
def test_every_turn_is_one_of_numpy_s(dims, side):
    """All of the group are products of quarter turns, which numpy.rot90 does one by one."""
    image = torch.arange(2 * side**dims, dtype=torch.int16).reshape(1, 2, *[side] * dims)
    planes = list(itertools.combinations(range(dims), 2))
    reached: dict[str, tuple[torch.Tensor, np.ndarray]] = {}
    todo = [(torch.eye(dims, dtype=torch.int64), image[0].numpy())]
    while todo:
        matrix, turned = todo.pop()
        if str(matrix.tolist()) in reached:
            continue
        reached[str(matrix.tolist())] = matrix, turned
        for plane in planes:
            axes = (1 + plane[0], 1 + plane[1])
            todo.append((quarter_turn(dims, plane) @ matrix, np.rot90(turned, 1, axes)))
    matrices = torch.stack([matrix for matrix, _ in reached.values()])
    assert len(matrices) == len(cube_rotations(dims))
    found = rotate(image.expand(len(matrices), *image.shape[1:]), matrices)
    assert found.dtype == torch.int16
    for ours, (_, theirs) in zip(found, reached.values(), strict=True):
        assert np.array_equal(ours.numpy(), theirs)


@pytest.mark.parametrize("dims", [2, 3])
def test_turns_one_after_the_other_are_their_product_and_can_be_undone(dims):
    group = cube_rotations(dims)
    generator = torch.Generator().manual_seed(0)
    first, second = (group[torch.randint(len(group), (6,), generator=generator)] for _ in range(2))
    images = torch.randn(6, 1, *[6] * dims, generator=generator)
    both = rotate(rotate(images, first), second)
    assert torch.equal(both, rotate(images, second @ first))
    assert torch.equal(rotate(rotate(images, first), first.transpose(1, 2)), images)
    assert torch.equal(rotate(images, group[:1].expand(6, -1, -1)), images)


def test_what_is_no_cube_is_refused():
    group = cube_rotations(3)
    for image, turns in (
        (torch.zeros(2, 1, 4, 4, 5), group[:2]),
        (torch.zeros(2, 1, 4, 4, 4), group[:3]),
        (torch.zeros(2, 1, 4, 4), group[:2]),
    ):
        with pytest.raises(ValueError, match="not squares or cubes"):
            rotate(image, turns)
