"""The rotations that map a square or a cube onto itself: exact, without interpolation."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor


def cube_rotations(dims: int, axis: int | None = None) -> Tensor:
    """All rotations of a square (4) or a cube (24): int64 (n, d, d), the identity first.

    They are the signed permutation matrices of determinant 1.

    Args:
        dims: 2 or 3.
        axis: of a cube, those 4 alone that leave this axis as it is; None: all.

    Raises:
        ValueError: there is no such axis to turn about.
    """
    if dims not in (2, 3) or axis not in (None, *range(dims)) or (dims == 2 and axis is not None):
        raise ValueError(f"images of {dims} axes cannot be turned about axis {axis} alone")
    found = []
    for order in itertools.permutations(range(dims)):
        for signs in itertools.product((1, -1), repeat=dims):
            matrix = torch.zeros(dims, dims, dtype=torch.int64)
            for row, (column, sign) in enumerate(zip(order, signs, strict=True)):
                matrix[row, column] = sign
            if torch.linalg.det(matrix.double()) > 0 and (axis is None or matrix[axis, axis] == 1):
                found.append(matrix)
    return torch.stack(found)


def rotate(images: Tensor, rotations: Tensor) -> Tensor:
    """Every image turned about its centre by a rotation of its own; its values are those it had.

    What lay at u from the centre lies at R u. On a GPU nothing waits for the host.

    Args:
        images: (B, C, *spatial), as many voxels along each axis; any type.
        rotations: int64 (B, d, d), of :func:`cube_rotations`; transposed, they turn back.

    Raises:
        ValueError: the axes differ in length, or the shapes do not belong together.
    """
    batch, _, *size = images.shape
    dims, side = len(size), size[0]
    if any(n != side for n in size) or rotations.shape != (batch, dims, dims):
        raise ValueError(
            f"images of shape {tuple(images.shape)} are not squares or cubes that rotations of "
            f"shape {tuple(rotations.shape)} turn"
        )
    strides = [side**k for k in reversed(range(dims))]
    # A voxel v holds what was at R^T v, counted from the centre: a step along axis j of the result
    # is one step, to or fro, along an axis of the image, and axes read to and fro start at the end.
    one = (batch, *(1,) * dims)
    back = rotations.sum(1) < 0
    index = sum((side - 1) * stride * back[:, k].reshape(one) for k, stride in enumerate(strides))
    steps = sum(stride * rotations[:, :, k] for k, stride in enumerate(strides))
    for axis in range(dims):
        shape = [1] * dims
        shape[axis] = side
        along = torch.arange(side, device=images.device).reshape(shape)
        index = index + steps[:, axis].reshape(one) * along
    flat = images.flatten(2)
    found = flat.gather(2, index.reshape(batch, 1, -1).expand_as(flat))
    return found.reshape(images.shape)
