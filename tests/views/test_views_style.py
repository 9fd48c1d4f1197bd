from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from medssl.views.style import Style, partners

SHAPES = [(12, 9), (8, 10, 7)]


def image(size: tuple[int, ...], n: int = 3) -> Tensor:
    made = torch.randn(n, 2, *size, generator=torch.Generator().manual_seed(0))
    return made * torch.tensor([1.0, 3.0, 0.5]).reshape(3, *(1,) * (len(size) + 1)) + 1


def drawn(whole_batch: bool) -> Style:
    return Style(
        picked=torch.tensor([True, False, True]),
        priority=torch.tensor([0.4, 0.9, 0.2]),
        radius=torch.tensor([0.31, 0.9, 0.57]),
        whole_batch=whole_batch,
    )


def exchanged(own: np.ndarray, giver: np.ndarray, radius: float) -> np.ndarray:
    """Full spectra, one number after the other."""
    low = own.min()
    mine, theirs = np.fft.fftn(own - low), np.fft.fftn(giver - giver.min())
    axes = [2 * np.fft.fftfreq(n) for n in own.shape]
    for place in np.ndindex(*own.shape):
        if sum(f[i] ** 2 for f, i in zip(axes, place, strict=True)) <= radius**2:
            mine[place] = abs(theirs[place]) * np.exp(1j * np.angle(mine[place]))
    back = np.fft.ifftn(mine)
    assert np.abs(back.imag).max() < 1e-9
    return back.real + low


@pytest.mark.parametrize("size", SHAPES)
def test_the_batch_takes_the_style_of_one(size: tuple[int, ...]):
    x = image(size)
    got = drawn(True).apply(x, None)
    for b in range(3):
        for c in range(2):
            # The third image has the least priority; what it drew holds for all.
            own, giver = x[b, c].double().numpy(), x[2, c].double().numpy()
            expected = exchanged(own, giver, 0.57)
            np.testing.assert_allclose(got[b, c].numpy(), expected, atol=1e-4)
    torch.testing.assert_close(got[2], x[2], rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", SHAPES)
def test_each_takes_the_style_of_the_next(size: tuple[int, ...]):
    x = image(size)
    got = drawn(False).apply(x, None)
    assert torch.equal(got[1], x[1])
    for b, giver, radius in [(0, 1, 0.31), (2, 0, 0.57)]:
        for c in range(2):
            own, other = x[b, c].double().numpy(), x[giver, c].double().numpy()
            expected = exchanged(own, other, radius)
            np.testing.assert_allclose(got[b, c].numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("whole_batch", [True, False])
def test_the_order_of_the_batch_does_not_matter(whole_batch: bool):
    x, style = image((12, 9)), drawn(whole_batch)
    order = torch.tensor([2, 0, 1])
    turned = replace(
        style,
        picked=style.picked[order],
        priority=style.priority[order],
        radius=style.radius[order],
    )
    torch.testing.assert_close(turned.apply(x[order], None), style.apply(x, None)[order])


def test_neutral_values_return_the_input():
    x = image((12, 9))
    nobody = replace(drawn(True), picked=torch.zeros(3, dtype=torch.bool))
    assert torch.equal(nobody.apply(x, None), x)
    alone = drawn(False).rows(slice(0, 1)).apply(x[:1], None)
    torch.testing.assert_close(alone, x[:1], rtol=0, atol=1e-5)


def test_partners_are_others_and_each_is_one_once():
    priority = torch.rand(40, generator=torch.Generator().manual_seed(2))
    chosen = partners(priority)
    assert not (chosen == torch.arange(40)).any()
    assert sorted(chosen.tolist()) == list(range(40))


def test_views_exchange_within_themselves():
    x = torch.cat((image((12, 9)), image((12, 9)).flip(0)))
    style = drawn(True)
    joined = replace(
        style,
        picked=style.picked.repeat(2),
        priority=style.priority.repeat(2),
        radius=style.radius.repeat(2),
    )
    got = joined.apply_to_views(x, 2)
    expected = torch.cat((style.apply(x[:3], None), style.apply(x[3:], None)))
    assert torch.equal(got, expected)
