from __future__ import annotations

import pytest
import torch
from method_cases import crops, make

from medssl.losses import MixedBarlow
from medssl.methods.mixed_barlow import partners
from medssl.networks import pooled
from medssl.views import Draw, sample_key


def draw(count: int, first: int = 0) -> Draw:
    keys = [sample_key(0, 0, number) for number in range(first, first + count)]
    return Draw(torch.tensor(keys), 1)


def test_mixed_images_are_what_the_loss_is_told():
    method, batch = make("mixed_barlow", redundancy=0.1, mixing=2.0).eval(), crops()
    views = method.views(batch)
    mixed, share, partner = method._mixed(views, batch)
    assert 0 <= share < 1
    for row, other in enumerate(partner.tolist()):
        expected = share * views[0][row] + (1 - share) * views[1][other]
        torch.testing.assert_close(mixed[row], expected)
    z1, z2, zm = (method.projector(pooled(method.encoder(v))) for v in (*views, mixed))
    expected = MixedBarlow(0.1, 2.0)(z1, z2, zm, share, partner)
    torch.testing.assert_close(method.step(batch).loss, expected)
    torch.testing.assert_close(method.preview(batch)["mixed"], mixed)


def test_the_share_is_anothers_in_another_batch():
    method, shares = make("mixed_barlow"), set()
    for epoch in range(20):
        batch = crops(epoch=epoch)
        shares.add(float(method._mixed(method.views(batch), batch)[1]))
    assert len(shares) == 20
    assert min(shares) < 0.2
    assert max(shares) > 0.8


@pytest.mark.parametrize("count", [2, 3, 4, 6, 8, 16])
def test_nobody_is_mixed_with_itself(count):
    found = partners(draw(count))
    assert sorted(found.tolist()) == list(range(count))
    assert not (found == torch.arange(count)).any()


def test_one_that_is_left_over_is_mixed_with_itself():
    assert partners(draw(5))[4] == 4
    assert partners(draw(1)).tolist() == [0]


def test_two_processes_of_whole_blocks_mix_what_one_does():
    both = torch.cat((partners(draw(8)), 8 + partners(draw(8, first=8))))
    assert torch.equal(partners(draw(16)), both)


def test_every_neighbour_comes_equally_often():
    found = partners(draw(4 * 3000)).unflatten(0, (-1, 4)) % 4
    for row in range(4):
        others = found[:, row].bincount(minlength=4)
        assert others[row] == 0
        assert others.sum() == 3000
        assert all(900 < int(c) < 1100 for i, c in enumerate(others) if i != row)
