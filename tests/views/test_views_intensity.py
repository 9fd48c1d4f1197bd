from __future__ import annotations

import contextlib
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from medssl.views import Draw, IntensityParams, IntensitySettings, sample_key
from medssl.views import intensity as room
from medssl.views.change import on_picked
from medssl.views.intensity import KINDS
from medssl.views.kspace import Ghost, Motion, Spike
from medssl.views.smooth import Blur, LowResolution, ThickSlices
from medssl.views.tone import Tone
from medssl.views.window import Window

ALL = IntensitySettings(
    window=(0.5, 1.0),
    style="sample",
    bias=0.3,
    motion=(8.0, 2.0),
    ghost=(0.3, 0.8),
    spike=(0.3, 1.0),
    blur=(0.3, 1.5),
    blur_each_axis=True,
    low_resolution=(1.0, 2.0),
    thick_slices=(1.0, 4.0),
    contrast=(0.7, 1.3),
    brightness=0.3,
    gamma=(0.5, 2.0),
    gamma_inverted=0.3,
    noise=0.2,
    rician=True,
)
ALONE = replace(ALL, style=None)  # what depends on the sample alone
NEUTRAL = {"style": None, "bias": 0.0, "brightness": 0.0, "noise": 0.0}


def only(kind: str) -> IntensitySettings:
    return replace(ALL, **{k: NEUTRAL.get(k) for k in KINDS if k != kind})


def keys(n: int) -> Tensor:
    return torch.tensor([sample_key(3, 0, index) for index in range(n)])


def image(dims: int, n: int = 5) -> Tensor:
    shape = (n, 2, 12, 10) if dims == 2 else (n, 2, 12, 10, 8)
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("dims", [2, 3])
def test_defaults_and_probability_zero_return_the_input(dims: int):
    x = image(dims)
    assert torch.equal(IntensityParams.draw(Draw(keys(5)), IntensitySettings()).apply(x), x)
    never = IntensityParams.draw(Draw(keys(5)), replace(ALL, probability=0.0))
    assert len(never.changes) == 10
    assert torch.equal(never.apply(x), x)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_changes_about_half_and_leaves_its_input(kind: str, dims: int):
    x = image(dims, n=20)
    kept = x.clone()
    params = IntensityParams.draw(Draw(keys(20)), only(kind))
    got = params.apply(x)
    assert torch.equal(x, kept)
    assert torch.equal(got, params.apply(x))
    assert got.isfinite().all()
    changed = (got != x).flatten(1).any(1)
    assert 4 <= int(changed.sum()) <= 16
    always = replace(only(kind), probabilities={kind: 1.0})
    got = IntensityParams.draw(Draw(keys(20)), always).apply(x)
    assert ((got - x).abs().flatten(1).amax(1) > 1e-3).all()


@pytest.mark.parametrize("dims", [2, 3])
def test_a_sample_is_changed_the_same_alone_and_in_a_batch(dims: int, monkeypatch):
    settings = replace(ALONE, probability=0.8)
    x = image(dims)
    together = IntensityParams.draw(Draw(keys(5)), settings).apply(x)
    for index in range(5):
        one = slice(index, index + 1)
        alone = IntensityParams.draw(Draw(keys(5)[one]), settings).apply(x[one])
        torch.testing.assert_close(alone[0], together[index], rtol=1e-4, atol=1e-4)
    # In pieces that hold two samples: the last holds one.
    monkeypatch.setattr(room, "_CHUNK", 2 * x[0].numel())
    split = IntensityParams.draw(Draw(keys(5)), settings).apply(x)
    torch.testing.assert_close(split, together, rtol=1e-4, atol=1e-4)


def test_asking_for_one_more_kind_leaves_the_numbers_of_the_others():
    some = IntensityParams.draw(Draw(keys(5)), replace(ALL, style=None, bias=0.0, motion=None))
    every = IntensityParams.draw(Draw(keys(5)), ALL)
    for a, b in zip(some.changes, [every.changes[0], *every.changes[4:]], strict=True):
        assert type(a) is type(b)
        for one, other in zip(vars(a).values(), vars(b).values(), strict=True):
            assert torch.equal(one, other) if isinstance(one, Tensor) else one == other


def test_what_an_accelerator_does_is_what_a_cpu_does(monkeypatch):
    """There all samples are computed and one or the other taken, here only those picked."""

    def all_of_them(picked, change, batch, *values):
        return torch.where(
            picked.reshape(-1, *(1,) * (batch.ndim - 1)), change(batch, *values), batch
        )

    params = IntensityParams.draw(Draw(keys(5)), ALL)
    x = image(3)
    picked = params.apply(x)
    for module in ("bias_field", "kspace", "smooth", "tone", "window"):
        monkeypatch.setattr(f"medssl.views.{module}.on_picked", all_of_them)
    torch.testing.assert_close(params.apply(x), picked, rtol=1e-4, atol=1e-4)


def test_on_picked_computes_those_alone():
    seen = []

    def double(part: Tensor, factor: Tensor) -> Tensor:
        seen.append(len(part))
        return part * factor[:, None, None, None]

    x = image(2, n=3)
    factor = torch.tensor([2.0, 3.0, 4.0])
    got = on_picked(torch.tensor([True, False, True]), double, x.clone(), factor)
    expected = torch.stack((x[0] * 2, x[1], x[2] * 4))
    assert torch.equal(got, expected)
    assert seen == [2]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.int16])
def test_half_precision_in_and_autocast_around(dtype: torch.dtype):
    x = (image(3) * 100).to(dtype)
    params = IntensityParams.draw(Draw(keys(5)), ALL)
    plain = params.apply(x)
    assert plain.dtype == torch.float32
    assert torch.equal(plain, params.apply(x.float()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(params.apply(x), plain)


def test_probabilities_and_ranges():
    n = 3000
    settings = replace(ALL, probability=0.3, probabilities={"blur": 0.1, "noise": 0.6})
    params = IntensityParams.draw(Draw(keys(n)), settings)
    found = {type(change): change for change in params.changes}
    tone, blur, low = found[Tone], found[Blur], found[LowResolution]
    window, ghost, spike = found[Window], found[Ghost], found[Spike]
    drawn = [
        (tone.contrast, 1.0, 0.3, 0.7, 1.3),
        (tone.brightness, 0.0, 0.3, -0.3, 0.3),
        (tone.gamma, 1.0, 0.3, 0.5, 2.0),
        (tone.noise, 0.0, 0.6, 0.0, 0.2),
        (blur.sigma[:, 0], 0.0, 0.1, 0.0, 1.5),
        (low.factor, 1.0, 0.3, 1.0, 2.0),
        (found[ThickSlices].factor, 1.0, 0.3, 1.0, 4.0),
        (window.width, 1.0, 0.3, 0.5, 1.0),
        (ghost.strength, 0.0, 0.3, 0.0, 0.8),
        (spike.strength, 0.0, 0.3, 0.0, 1.0),
    ]
    for values, neutral, p, smallest, largest in drawn:
        changed = values != neutral
        assert abs(float(changed.float().mean()) - p) < 5 * math.sqrt(p * (1 - p) / n)
        assert float(values.min()) >= smallest - 1e-6
        assert float(values.max()) <= largest + 1e-6
        assert float(values[changed].std()) > 0.2 * (largest - smallest) / math.sqrt(12)
    assert set(ghost.number.tolist()) == {2, 3, 4, 5}
    assert abs(float(tone.inverted.float().mean()) - 0.3) < 5 * math.sqrt(0.21 / n)
    assert float(tone.gamma[tone.gamma != 1].log().mean().abs()) < 0.1
    motion = found[Motion]
    assert float(motion.angles.abs().max()) <= math.radians(8) + 1e-6
    assert float(motion.shift.abs().max()) <= 2
    assert ((motion.ends - 0.5).abs() >= 0.05 - 1e-6).all()
    # The sigmas of the axes are drawn each for itself.
    several = blur.sigma[blur.sigma[:, 0] > 0].T
    assert float((torch.corrcoef(several) - torch.eye(3)).abs().max()) < 5 / math.sqrt(0.1 * n)


def test_mm_need_a_spacing():
    x, spacing = image(3), torch.full((5, 3), 2.0)
    settings = replace(only("blur"), unit="mm", probability=1.0)
    params = IntensityParams.draw(Draw(keys(5)), settings)
    with pytest.raises(ValueError, match="spacing"):
        params.apply(x)
    in_voxels = IntensityParams.draw(Draw(keys(5)), replace(settings, unit="voxel"))
    torch.testing.assert_close(params.apply(x, spacing / 2), in_voxels.apply(x))
    assert float((params.apply(x, spacing) - x).abs().mean()) < float(
        (in_voxels.apply(x) - x).abs().mean()
    )
    # Noise knows no lengths.
    noise = replace(only("noise"), unit="mm")
    IntensityParams.draw(Draw(keys(5)), noise).apply(x)


def test_refuses_a_change_that_there_is_not():
    with pytest.raises(ValueError, match="no change of intensity named"):
        IntensityParams.draw(Draw(keys(1)), replace(ALL, probabilities={"blurr": 0.1}))


@pytest.mark.parametrize("style", ["batch", "sample"])
@pytest.mark.parametrize("dims", [2, 3])
def test_nothing_waits_for_an_accelerator(dims: int, style: str, monkeypatch):
    """A meta tensor has no values: whatever asked for one, as a wait would, would fail."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    settings = replace(ALL, style=style, unit="mm")
    params = IntensityParams.draw(Draw(keys(5).to("meta")), settings)
    x = image(dims).to("meta")
    assert params.apply(x, torch.ones(5, dims, device="meta")).shape == x.shape
    with pytest.raises((RuntimeError, NotImplementedError)):
        x.amax().item()
