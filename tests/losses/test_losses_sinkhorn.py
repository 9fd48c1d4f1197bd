from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from medssl.losses import sinkhorn


def slow(scores: Tensor, epsilon: float, iterations: int) -> Tensor:
    """The paper's algorithm number by number in float64: scale columns, scale rows, in turn."""
    count, prototypes = scores.shape
    q = [[math.exp(float(s) / epsilon) for s in row] for row in scores]
    for _ in range(iterations):
        for k in range(prototypes):
            total = sum(q[i][k] for i in range(count))
            for i in range(count):
                q[i][k] /= total * prototypes
        for i in range(count):
            total = sum(q[i])
            q[i] = [value / (total * count) for value in q[i]]
    return torch.tensor(q, dtype=torch.float64) * count


def cosines(rows: int, prototypes: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(rows, prototypes, generator=generator, dtype=torch.float64) - 1


@pytest.mark.parametrize("iterations", [1, 3, 20])
@pytest.mark.parametrize("epsilon", [0.05, 0.5])
def test_it_is_the_papers_algorithm(epsilon: float, iterations: int):
    scores = cosines(7, 4)
    expected = slow(scores, epsilon, iterations)
    torch.testing.assert_close(sinkhorn(scores, epsilon, iterations), expected)
    single = sinkhorn(scores.float(), epsilon, iterations)
    torch.testing.assert_close(single, expected.float(), rtol=1e-4, atol=1e-5)


def test_rows_add_up_to_one_and_columns_to_equal_shares():
    scores = cosines(64, 5)
    torch.testing.assert_close(sinkhorn(scores).sum(1), torch.ones(64, dtype=torch.float64))
    shares = [(sinkhorn(scores, 0.1, n).mean(0) - 1 / 5).abs().max() for n in (0, 1, 3, 200)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0.03
    assert shares[-1] < 1e-9


def test_without_rounds_it_is_a_softmax_and_where_all_are_alike_uniform():
    scores = cosines(6, 3)
    torch.testing.assert_close(sinkhorn(scores, 0.2, 0), (scores / 0.2).softmax(1))
    alike = scores[:1].expand(6, 3)
    torch.testing.assert_close(sinkhorn(alike), torch.full_like(alike, 1 / 3))


def test_rows_that_are_shared_take_part():
    scores = cosines(9, 4)
    expected = sinkhorn(scores)
    torch.testing.assert_close(sinkhorn(scores[:5], shared=scores[5:]), expected[:5])


def test_the_order_of_rows_and_of_prototypes_and_a_shift_do_not_matter():
    scores = cosines(8, 4)
    rows, columns = torch.randperm(8), torch.randperm(4)
    expected = sinkhorn(scores)
    torch.testing.assert_close(sinkhorn(scores[rows][:, columns] + 3), expected[rows][:, columns])


def test_nothing_overflows_and_nothing_has_a_gradient():
    scores = (1000 * cosines(8, 4)).float().requires_grad_()
    found = sinkhorn(scores, 0.01)
    assert found.isfinite().all()
    assert not found.requires_grad


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match=r"shape \(B, K\)"):
        sinkhorn(torch.zeros(3))
    with pytest.raises(ValueError, match=r"\(2, 4\)"):
        sinkhorn(torch.zeros(2, 3), shared=torch.zeros(2, 4))
    with pytest.raises(ValueError, match="epsilon"):
        sinkhorn(torch.zeros(2, 3), epsilon=0.0)
