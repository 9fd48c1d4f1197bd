"""The slow change of brightness across an MR image that its coils make."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from medssl.views.change import Change, on_picked, signal_zero

ORDER = 3
# (order along x, y, z) of every product of Legendre polynomials of total order 1 to 3; those
# without z come first, so that 2D takes the first of them.
TERMS = sorted(
    (term for term in itertools.product(range(ORDER + 1), repeat=3) if 1 <= sum(term) <= ORDER),
    key=lambda term: (term[2], term),
)


@dataclass(frozen=True)
class BiasField(Change):
    """The signal times exp(a polynomial of order 3 in the place), whose mean is 0.

    Attributes:
        picked: bool (B,).
        coefficients: of `TERMS`, float32 (B, 19).
    """

    picked: Tensor
    coefficients: Tensor

    def apply(self, batch: Tensor, spacing: Tensor | None) -> Tensor:
        """See `Change.apply`."""
        return on_picked(self.picked, add_bias, batch, self.coefficients)


def add_bias(batch: Tensor, coefficients: Tensor) -> Tensor:
    """The bias field on every sample; see `BiasField`."""
    zero = signal_zero(batch)
    field = log_field(coefficients, batch.shape[2:]).exp_()[:, None]
    return torch.addcmul(zero, batch - zero, field)


def log_field(coefficients: Tensor, size: torch.Size) -> Tensor:
    """The logarithm of the field: float32 (B, *size)."""
    used = [term[: len(size)] for term in TERMS if len(size) == 3 or term[2] == 0]
    none = torch.zeros_like(coefficients[:, 0])
    orders = itertools.product(range(ORDER + 1), repeat=len(size))
    columns = [coefficients[:, used.index(o)] if o in used else none for o in orders]
    cube = torch.stack(columns, dim=1).reshape(-1, *(ORDER + 1,) * len(size))
    # One axis after the other: (B, orders, ...) -> (B, ..., voxels).
    for length in size:
        cube = torch.tensordot(cube, _legendre(length, cube.device), dims=([1], [1]))
    return cube.contiguous()


def _legendre(length: int, device: torch.device) -> Tensor:
    """Legendre polynomials of order 0 to 3 over [-1, 1] at voxel centres: (length, 4)."""
    x = (torch.arange(length, device=device) + 0.5) * (2.0 / length) - 1.0
    return torch.stack((torch.ones_like(x), x, 1.5 * x**2 - 0.5, 2.5 * x**3 - 1.5 * x), dim=1)
