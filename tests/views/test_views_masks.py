from __future__ import annotations

import pytest
import torch

from medssl.views import Draw, masked_count, random_mask, sample_key, upsample_mask


def draw(n: int) -> Draw:
    return Draw(torch.tensor([sample_key(1, 0, index) for index in range(n)]))


@pytest.mark.parametrize("grid", [(7, 7), (3, 4, 5)])
@pytest.mark.parametrize("ratio", [0.0, 0.6, 0.75, 1.0])
def test_exact_count(grid: tuple[int, ...], ratio: float):
    mask = random_mask(draw(9), grid, ratio)
    assert mask.shape == (9, 1, *grid)
    assert mask.dtype == torch.bool
    assert mask.flatten(1).sum(1).tolist() == [masked_count(grid, ratio)] * 9


def test_every_cell_is_equally_likely():
    share = random_mask(draw(4000), (4, 4), 0.5).float().mean(0)
    assert float((share - 0.5).abs().max()) < 5 * 0.5 / 4000**0.5


def test_upsampled_mask_is_blocks():
    mask = torch.tensor([[True, False], [False, True]])[None, None]
    expected = torch.kron(mask[0, 0].int(), torch.ones(3, 2, dtype=torch.int)).bool()
    assert torch.equal(upsample_mask(mask, (6, 4))[0, 0], expected)
    assert upsample_mask(mask, (2, 2)) is mask


def test_refusals():
    with pytest.raises(ValueError, match="ratio"):
        random_mask(draw(1), (4, 4), 1.2)
    with pytest.raises(ValueError, match="does not divide"):
        upsample_mask(random_mask(draw(1), (4, 4), 0.5), (6, 8))
