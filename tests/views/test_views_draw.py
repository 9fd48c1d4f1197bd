from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from medssl.views import Draw, sample_key


def keys(n: int, seed: int = 0) -> torch.Tensor:
    return torch.tensor([sample_key(seed, 0, index) for index in range(n)])


def everything(draw: Draw) -> list[torch.Tensor]:
    return [
        draw.uniform(-1, 2, 3),
        draw.normal(5),
        draw.bernoulli(0.3, 4),
        draw.integers(-3, 7, 2, 2),
        draw.permutation(6),
        draw.fork(2).uniform(0, 1),
    ]


def test_numbers_of_a_sample_do_not_depend_on_its_batch():
    together = everything(Draw(keys(8), stream=5))
    for index in (0, 3, 7):
        alone = everything(Draw(keys(8)[index : index + 1], stream=5))
        for part, whole in zip(alone, together, strict=True):
            torch.testing.assert_close(part[0], whole[index], rtol=0, atol=0)


def test_hash_is_splitmix64():
    # The first outputs of splitmix64 seeded with 1234567, as published with the algorithm.
    from medssl.views.draw import _GOLDEN, _mix, _mix_int, _signed

    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    for step, value in enumerate(expected, start=1):
        state = 1234567 + step * _GOLDEN
        assert _mix_int(state) == value
        assert int(_mix(torch.tensor([_signed(state)]))) == _signed(value)


def test_keys_differ_by_seed_epoch_and_index():
    made = {sample_key(s, e, i) for s in range(10) for e in range(10) for i in range(100)}
    assert len(made) == 10_000
    assert all(-(2**63) <= key < 2**63 for key in made)


def test_uniform_and_normal_follow_their_laws():
    draw = Draw(keys(200))
    uniform = draw.uniform(0, 1, 100)
    assert stats.kstest(uniform.flatten().numpy(), "uniform").pvalue > 1e-3
    # Also across samples for one place in the stream, where neighbouring keys could show.
    across = Draw(keys(5000)).uniform(0, 1)
    assert stats.kstest(across.numpy(), "uniform").pvalue > 1e-3
    normal = draw.normal(101)
    assert normal.shape == (200, 101)
    assert stats.kstest(normal.flatten().numpy(), "norm").pvalue > 1e-3


@pytest.mark.parametrize("pair", ["calls", "streams", "neighbours", "epochs", "forks"])
def test_no_correlation(pair: str):
    n = 20_000
    base = keys(n)
    a = Draw(base).normal()
    if pair == "calls":
        draw = Draw(base)
        draw.normal()
        b = draw.normal()
    elif pair == "streams":
        b = Draw(base, stream=1).normal()
    elif pair == "neighbours":
        a, b = a[:-1], a[1:]
    elif pair == "epochs":
        b = Draw(torch.tensor([sample_key(0, 1, index) for index in range(n)])).normal()
    else:
        a, b = Draw(base).fork(0).normal(), Draw(base).fork(1).normal()
    assert abs(float(torch.corrcoef(torch.stack((a, b)))[0, 1])) < 4.5 / math.sqrt(n)


def test_normals_of_one_word_are_uncorrelated():
    # Each 64 bits give four; their products and squares could show it too.
    x = Draw(keys(1)).normal(80_000)[0].reshape(-1, 4).T
    for values in (x, x.square()):
        other = torch.corrcoef(values) - torch.eye(4)
        assert float(other.abs().max()) < 4.5 / math.sqrt(20_000)


def test_normal_has_the_moments_and_the_tails():
    x = Draw(keys(20)).normal(100_000).flatten().double()
    assert abs(float(x.mean())) < 5 / math.sqrt(2e6)
    assert abs(float(x.square().mean()) - 1) < 5 * math.sqrt(2 / 2e6)
    assert abs(float((x**4).mean()) - 3) < 5 * math.sqrt(96 / 2e6)
    for limit in (2.0, 3.0, 4.0):
        p = 2 * stats.norm.sf(limit)
        assert abs(float((x.abs() > limit).double().mean()) - p) < 5 * math.sqrt(p / 2e6)
    assert 4.0 < float(x.abs().max()) < 4.33


def test_normal_is_its_bits_through_the_quantiles():
    words = Draw(keys(2)).bits(3)
    got = Draw(keys(2)).normal(10)
    for row in range(2):
        for place in range(10):
            word = int(words[row, place // 4]) & ((1 << 64) - 1)
            sixteen = (word >> (16 * (place % 4))) & 0xFFFF
            expected = stats.norm.ppf((sixteen + 0.5) / 65536)
            assert float(got[row, place]) == pytest.approx(expected, abs=1e-4)


def test_table_is_the_forks_at_once():
    table = Draw(keys(5), stream=3).table([4, 0, 4], 6)
    assert table.shape == (5, 3, 6)
    for column, stream in enumerate([4, 0, 4]):
        expected = Draw(keys(5), stream=3).fork(stream).uniform(0, 1, 6)
        assert torch.equal(table[:, column], expected)


def test_ranges():
    draw = Draw(keys(100))
    u = draw.uniform(-2.0, 3.0, 100)
    assert u.dtype == torch.float32
    assert float(u.min()) >= -2.0
    assert float(u.max()) < 3.0
    i = draw.integers(2, 5, 100)
    assert set(i.unique().tolist()) == {2, 3, 4}
    assert not draw.bernoulli(0.0, 50).any()
    assert draw.bernoulli(1.0, 50).all()
    assert abs(float(draw.bernoulli(0.3, 1000).float().mean()) - 0.3) < 0.01
    assert torch.equal(draw.uniform(1.5, 1.5, 2), torch.full((100, 2), 1.5))


def test_high_end_of_an_uneven_range_stays_open():
    assert float(Draw(keys(300)).uniform(1e7, 1e7 + 1, 300).max()) < 1e7 + 1


def test_permutations_are_permutations_and_differ():
    p = Draw(keys(50)).permutation(10)
    assert torch.equal(p.sort(dim=1).values, torch.arange(10).expand(50, 10))
    assert len(p.unique(dim=0)) > 45


def test_fork_leaves_the_stream_where_it_was():
    one, two = Draw(keys(3)), Draw(keys(3))
    one.fork(4).uniform(0, 1, 10)
    assert torch.equal(one.uniform(0, 1), two.uniform(0, 1))


def test_refusals():
    with pytest.raises(ValueError, match="int64 vector"):
        Draw(torch.zeros(3))
    with pytest.raises(ValueError, match="no integer"):
        Draw(keys(1)).integers(3, 3)
