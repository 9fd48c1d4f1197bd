from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from medssl.views import (
    Draw,
    block_mask,
    box_mask,
    channel_mask,
    inverse_block_mask,
    masked_count,
    random_mask,
    sample_key,
    upsample_mask,
)


def draw(n: int) -> Draw:
    return Draw(torch.tensor([sample_key(1, 0, index) for index in range(n)]))


GRIDS = st.lists(st.integers(1, 9), min_size=2, max_size=3).map(tuple)
RATIOS = st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1))


@settings(max_examples=60, deadline=None)
@given(grid=GRIDS, ratio=RATIOS, blocks=st.integers(1, 3), roll=st.booleans())
def test_exact_count(grid: tuple[int, ...], ratio: float, blocks: int, roll: bool):
    made = (
        random_mask(draw(5), grid, ratio),
        block_mask(draw(5), grid, ratio, blocks=blocks, roll=roll),
        inverse_block_mask(draw(5), grid, ratio, blocks=blocks, roll=roll),
    )
    for mask in made:
        assert mask.shape == (5, 1, *grid)
        assert mask.dtype == torch.bool
        assert mask.flatten(1).sum(1).tolist() == [masked_count(grid, ratio)] * 5


def pieces(cells: np.ndarray, roll: bool) -> int:
    """Connected components across faces; on a grid without an edge by tiling it."""
    if not roll:
        return int(ndimage.label(cells)[1])
    tiled, _ = ndimage.label(np.tile(cells, (2,) * cells.ndim))
    # Pieces that touch the same cell of the torus are one.
    parent = list(range(int(tiled.max()) + 1))

    def root(a: int) -> int:
        while parent[a] != a:
            a = parent[a]
        return a

    for place in np.argwhere(cells):
        copies = [
            int(tiled[tuple(place + np.array(shift) * cells.shape)])
            for shift in np.ndindex(*(2,) * cells.ndim)
        ]
        for other in copies[1:]:
            parent[root(other)] = root(copies[0])
    return len({root(a) for a in range(1, len(parent))})


@settings(max_examples=40, deadline=None)
@given(grid=GRIDS, ratio=st.floats(0.05, 0.95), aspect=st.floats(1, 6), roll=st.booleans())
def test_blocks_hang_together(grid: tuple[int, ...], ratio: float, aspect: float, roll: bool):
    hidden = block_mask(draw(4), grid, ratio, aspect=aspect, roll=roll)
    shown = ~inverse_block_mask(draw(4), grid, ratio, aspect=aspect, roll=roll)
    for mask in (hidden, shown):
        for cells in mask[:, 0].numpy():
            assert not cells.any() or pieces(cells, roll) == 1


def test_blocks_are_blocks():
    """The smallest box around a block is nearly filled: but for its last layer of cells."""
    for cells in block_mask(draw(200), (30, 30), 0.1)[:, 0].numpy():
        rows, columns = np.flatnonzero(cells.any(1)), np.flatnonzero(cells.any(0))
        box = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        assert box - 90 <= max(np.ptp(rows), np.ptp(columns)) + 1


def test_blocks_have_every_aspect():
    cells = block_mask(draw(500), (40, 40), 0.05, aspect=4.0, roll=False)[:, 0]
    rows, columns = cells.any(2).sum(1).float(), cells.any(1).sum(1).float()
    ratio = (rows / columns).log2()
    assert float(ratio.max()) > 1.3
    assert float(ratio.min()) < -1.3
    assert abs(float(ratio.mean())) < 0.15


def test_several_blocks_lie_apart():
    counts = [
        ndimage.label(cells)[1] for cells in block_mask(draw(50), (30, 30), 0.05, blocks=3)[:, 0]
    ]
    assert max(counts) == 3
    assert np.mean(counts) > 2.3


@pytest.mark.parametrize("grid", [(4, 4), (3, 4, 5)])
def test_every_cell_is_equally_likely(grid: tuple[int, ...]):
    n = 4000
    for made in (
        random_mask(draw(n), grid, 0.5),
        block_mask(draw(n), grid, 0.5, roll=True),
        inverse_block_mask(draw(n), grid, 0.5, roll=True, blocks=2),
    ):
        share = made.float().mean(0)
        assert float((share - 0.5).abs().max()) < 5 * 0.5 / n**0.5


def test_without_roll_the_middle_is_hidden_more_often():
    share = block_mask(draw(2000), (9, 9), 0.3).float().mean(0)[0]
    assert float(share[4, 4]) > float(share[0, 0]) + 0.1


def test_a_sample_is_masked_the_same_in_any_batch():
    keys = draw(6).keys
    for made in (
        lambda d: random_mask(d, (5, 6), 0.4),
        lambda d: channel_mask(d, (5, 6), 0.4, 3, dropped=1),
        lambda d: block_mask(d, (5, 6), 0.4, blocks=2),
        lambda d: inverse_block_mask(d, (5, 6), 0.4, roll=True),
    ):
        together = made(Draw(keys))
        for index in (0, 5):
            assert torch.equal(made(Draw(keys[index : index + 1]))[0], together[index])
        assert len(together.flatten(1).unique(dim=0)) == 6


def test_channels_hide_cells_of_their_own():
    n, grid = 300, (4, 5)
    mask = channel_mask(draw(n), grid, 0.6, 3, dropped=1)
    assert mask.shape == (n, 3, *grid)
    counts = mask.flatten(2).sum(2)
    # One channel hides all 20 cells, the others 12 each.
    assert counts.sort(dim=1).values.tolist() == [[12, 12, 20]] * n
    gone = (counts == 20).float().mean(0)
    assert float((gone - 1 / 3).abs().max()) < 5 * math.sqrt(2 / 9 / n)
    apart = channel_mask(draw(n), grid, 0.5, 2).flatten(2)
    same = (apart[:, 0] == apart[:, 1]).float().mean()
    assert abs(float(same) - 0.5) < 0.05


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
    with pytest.raises(ValueError, match="cannot be dropped"):
        channel_mask(draw(1), (4, 4), 0.5, 2, dropped=2)
    with pytest.raises(ValueError, match="no mask of 0 blocks"):
        block_mask(draw(1), (4, 4), 0.5, blocks=0)
    with pytest.raises(ValueError, match="aspect"):
        inverse_block_mask(draw(1), (4, 4), 0.5, aspect=0.5)


def test_nothing_waits_for_an_accelerator():
    """A meta tensor has no values: whatever asked for one, as a wait would, would fail."""
    absent = Draw(draw(3).keys.to("meta"))
    made = (
        channel_mask(absent, (4, 4), 0.5, 2, dropped=1),
        block_mask(absent, (4, 4), 0.5, roll=True),
        inverse_block_mask(absent, (4, 4, 4), 0.5, blocks=2),
    )
    assert [mask.device.type for mask in made] == ["meta"] * 3


@settings(max_examples=40, deadline=None)
@given(grid=GRIDS, ratio=st.lists(RATIOS, min_size=3, max_size=3), largest=st.floats(0.05, 1))
def test_boxes_hide_each_samples_own_number(grid, ratio, largest):
    mask = box_mask(draw(3), grid, torch.tensor(ratio), largest)
    assert mask.shape == (3, 1, *grid)
    counts = (torch.tensor(ratio) * math.prod(grid)).round().long()
    assert torch.equal(mask.flatten(1).sum(1), counts)
    alone = box_mask(Draw(draw(3).keys[2:]), grid, torch.tensor(ratio[2:]), largest)
    assert torch.equal(mask[2:], alone)


@pytest.mark.parametrize("share", [0.3, 0.75])
def test_boxes_hide_every_cell_equally_often(share: float):
    mask = box_mask(draw(4000), (6, 10), torch.full((4000,), share), 0.3)
    often = mask.float().mean(0)[0]
    assert float((often - share).abs().max()) < 5 * (share * (1 - share) / 4000) ** 0.5


def test_boxes_are_larger_than_single_cells():
    """Neighbours are hidden together far more often than by chance, and not along a long way."""
    mask = box_mask(draw(500), (12, 12), torch.full((500,), 0.3), 0.3)[:, 0].float()
    together = (mask[:, 1:] * mask[:, :-1]).mean()
    apart = (mask[:, 3:] * mask[:, :-3]).mean()  # as far as boxes of three cells do not reach
    assert abs(float(apart) - 0.09) < 0.02
    assert together > 0.15  # 0.09 by chance
    with pytest.raises(ValueError, match="share in"):
        box_mask(draw(1), (4, 4), torch.ones(1), 0.0)
