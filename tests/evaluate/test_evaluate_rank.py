from __future__ import annotations

import math

import pytest
import torch

from medssl.evaluate.rank import rank_me


def test_equal_singular_values_give_the_full_rank():
    assert rank_me(3 * torch.eye(8)) == pytest.approx(8, rel=1e-5)


def test_one_direction_gives_rank_one():
    column = torch.arange(1.0, 21.0)[:, None]
    assert rank_me(column @ torch.ones(1, 6)) == pytest.approx(1, abs=1e-4)


def test_matches_the_formula_from_eigenvalues():
    x = torch.randn(30, 5, generator=torch.Generator().manual_seed(0)) + 1
    sigma = [math.sqrt(v) for v in torch.linalg.eigvalsh((x.T @ x).double()).tolist()]
    p = [s / sum(sigma) + 1e-7 for s in sigma]
    assert rank_me(x) == pytest.approx(math.exp(-sum(q * math.log(q) for q in p)), rel=1e-5)


def test_embeddings_are_not_centred():
    # far from the origin the mean is the leading direction
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    assert rank_me(x + 1000) < 1.1 < rank_me(x)


@pytest.mark.parametrize(
    "bad", [torch.zeros(3, 4), torch.ones(3), torch.tensor([[1.0, float("nan")]])]
)
def test_degenerate_embeddings_are_refused(bad):
    with pytest.raises(ValueError, match=r"embeddings|matrix"):
        rank_me(bad)
