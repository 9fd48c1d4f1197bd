"""Losses that look across samples or dimensions, forward and backward, beside their bare matrix
products and beside MONAI's.

    python benchmarks/losses.py
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
import typer
from paired import ratio, take_turns
from torch import Tensor

from medssl.losses import BarlowTwins, NTXent, VICReg

Run = Callable[[], object]


def backward(loss: Callable[[Tensor, Tensor], Tensor], z1: Tensor, z2: Tensor) -> Run:
    """One forward and backward pass."""
    z1, z2 = (z.clone().requires_grad_() for z in (z1, z2))
    return lambda: torch.autograd.grad(loss(z1, z2), (z1, z2))


def similarities(z1: Tensor, z2: Tensor) -> Run:
    """The products of NT-Xent: all similarities of 2B rows, and two for the gradient."""
    z = torch.cat((z1, z2))

    def run() -> None:
        s = z @ z.T
        s @ z, s.T @ z

    return run


def by_dimensions(z1: Tensor, z2: Tensor) -> Run:
    """The products of the papers' formulas: one D x D matrix, and two for the gradient."""

    def run() -> None:
        c = z1.T @ z2
        z2 @ c.T, z1 @ c

    return run


def by_samples(z1: Tensor, z2: Tensor) -> Run:
    """The same sum of squares from two B x B matrices: what medssl multiplies where B < D."""

    def run() -> None:
        a, b = z1 @ z1.T, z2 @ z2.T
        b @ z1, a @ z2

    return run


def rivals(z1: Tensor, z2: Tensor, few: int) -> tuple[dict[str, Run], list[tuple[str, str]]]:
    """What is timed, and which is held against which."""
    less1, less2 = z1[:few], z2[:few]
    small = f" at {few}"
    rows = {
        "NT-Xent: products": similarities(z1, z2),
        "NT-Xent: medssl": backward(NTXent(0.1), z1, z2),
        "two views: products, D x D": by_dimensions(z1, z2),
        "two views: products, B x B": by_samples(z1, z2),
        "Barlow Twins: medssl": backward(BarlowTwins(), z1, z2),
        "VICReg: medssl": backward(VICReg(), z1, z2),
        "NT-Xent: products" + small: similarities(less1, less2),
        "NT-Xent: medssl" + small: backward(NTXent(0.1), less1, less2),
    }
    pairs = [
        ("NT-Xent: medssl", "NT-Xent: products"),
        ("Barlow Twins: medssl", "two views: products, B x B"),
        ("Barlow Twins: medssl", "two views: products, D x D"),
        ("VICReg: medssl", "two views: products, B x B"),
        ("VICReg: medssl", "two views: products, D x D"),
        ("NT-Xent: medssl" + small, "NT-Xent: products" + small),
    ]
    try:
        from monai.losses import BarlowTwinsLoss, ContrastiveLoss
    except ImportError:
        print("MONAI: not installed")
        return rows, pairs
    rows["Barlow Twins: MONAI"] = backward(BarlowTwinsLoss(), z1, z2)
    rows["NT-Xent: MONAI" + small] = backward(ContrastiveLoss(0.1), less1, less2)
    pairs += [
        ("Barlow Twins: MONAI", "two views: products, D x D"),
        ("Barlow Twins: MONAI", "Barlow Twins: medssl"),
        ("NT-Xent: MONAI" + small, "NT-Xent: products" + small),
        ("NT-Xent: MONAI" + small, "NT-Xent: medssl" + small),
    ]
    return rows, pairs


def main(
    samples: Annotated[int, typer.Option(help="Rows of each view.")] = 512,
    dimensions: Annotated[int, typer.Option(help="Width of an embedding.")] = 2048,
    few: Annotated[int, typer.Option(help="Rows where MONAI's ContrastiveLoss joins.")] = 128,
    rounds: Annotated[int, typer.Option(help="How often each is timed.")] = 7,
    threads: Annotated[int, typer.Option(help="Of PyTorch.")] = 2,
) -> None:
    """Print two tables, of each one's best round: milliseconds, and ratios."""
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    z1 = torch.randn(samples, dimensions, generator=generator)
    z2 = z1 + torch.randn(samples, dimensions, generator=generator)
    rows, pairs = rivals(z1, z2, few)
    seconds = take_turns(rows, rounds)
    print(f"Two views of {samples} x {dimensions}, float32, {threads} threads\n")
    print("| forward and backward | ms |\n| --- | --- |")
    for name, times in seconds.items():
        print(f"| {name} | {1000 * min(times):.1f} |")
    print("\n| | against | times as long |\n| --- | --- | --- |")
    for of, to in pairs:
        print(f"| {of} | {to} | {ratio(seconds, of, to):.2f} |")


if __name__ == "__main__":
    typer.run(main)
