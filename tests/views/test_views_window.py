from __future__ import annotations

import torch

from medssl.store.intensity import IntensityContract
from medssl.views import jitter_normalisation
from medssl.views.window import Window


def normalised(raw: torch.Tensor, normalisation: torch.Tensor) -> torch.Tensor:
    low, high, shift, scale = normalisation.reshape(-1, 4, 1, 1, 1).unbind(1)
    return (raw.clamp(low, high) - shift) * scale


def case() -> tuple[torch.Tensor, torch.Tensor]:
    """Raw CT crops that reach beyond the window, and the contract's numbers."""
    raw = torch.randint(-1500, 2500, (3, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    contract = IntensityContract(scheme="window", low=-1000, high=1000)
    return raw.float(), torch.tensor(contract.parameters({})).expand(3, 4)


def test_a_window_inside_is_what_clipping_the_raw_crop_gives():
    raw, contract = case()
    width, place = torch.tensor([0.4, 0.75, 1.0]), torch.tensor([-1.0, 0.3, 0.8])
    crops = normalised(raw, contract)
    got = Window(width, place).apply(crops, None)
    # By hand: the first window is [-1000, -200], the second 1500 wide about 75.
    expected = torch.stack(
        ((raw[0].clamp(-1000, -200) + 600) / 400, (raw[1].clamp(-675, 825) - 75) / 750, crops[2])
    )
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)
    moved = jitter_normalisation(contract, width, place * (1 - width) / 2)
    torch.testing.assert_close(normalised(raw, moved), expected, rtol=0, atol=1e-5)


def test_any_window_of_raw_crops():
    raw, contract = case()
    moved = jitter_normalisation(contract, torch.tensor([1.5, 1.0, 0.1]), torch.tensor([0.2, 0, 1]))
    torch.testing.assert_close(
        moved[:, :2], torch.tensor([[-1100.0, 1900.0], [-1000.0, 1000.0], [1900.0, 2100.0]])
    )
    got = normalised(raw, moved)
    expected = (raw[0].clamp(-1100, 1900) - 400) / 1500
    torch.testing.assert_close(got[0], expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(got[1], normalised(raw, contract)[1], rtol=0, atol=1e-5)


def test_another_contract_keeps_its_range():
    # As a z-score clips: low and high need not map to -1 and 1.
    contract = torch.tensor([[10.0, 110.0, 30.0, 0.05]])
    moved = jitter_normalisation(contract, torch.tensor([0.5]), torch.tensor([0.1]))
    low, high, shift, scale = moved[0]
    torch.testing.assert_close((low - shift) * scale, torch.tensor(-1.0))
    torch.testing.assert_close((high - shift) * scale, torch.tensor(4.0))


def test_neutral_values_return_the_input():
    crops = torch.rand(2, 1, 4, 4) * 2 - 1
    assert Window(torch.ones(2), torch.tensor([-1.0, 1.0])).apply(crops, None) is crops
