from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from medssl.losses import PlaceContrast


def given(seed: int = 0, double: bool = False) -> dict[str, Tensor]:
    """Three samples of two subjects: 4 points, 6 candidates and 2 offers each, of width 5."""
    generator = torch.Generator().manual_seed(seed)

    def rows(*shape: int) -> Tensor:
        made = torch.randn(*shape, generator=generator)
        return F.normalize(made.double() if double else made, dim=2)

    return {
        "queries": rows(3, 4, 5),
        "keys": rows(3, 4, 5),
        "counts": torch.tensor([[1, 1, 0, 1], [1, 1, 1, 1], [0, 1, 1, 1]]).bool(),
        "candidates": rows(3, 6, 5),
        "allowed": torch.rand(3, 4, 6, generator=generator) > 0.3,
        "offers": rows(3, 2, 5),
        "subject": torch.tensor([7, 4, 7]),
    }


def slow(temperature: float, hard: int, **made: Any) -> float:
    """Equation 1 with loops over Python floats."""
    lists = {name: value.tolist() for name, value in made.items()}

    def e(a: list[float], b: list[float]) -> float:
        dot = math.fsum(x * y for x, y in zip(a, b, strict=True))
        return math.exp(dot / (math.hypot(*a) * math.hypot(*b)) / temperature)

    losses = []
    for i, subject in enumerate(lists["subject"]):
        for p, query in enumerate(lists["queries"][i]):
            if not lists["counts"][i][p]:
                continue
            allowed = lists["allowed"][i][p]
            near = [
                e(query, c) for c, yes in zip(lists["candidates"][i], allowed, strict=True) if yes
            ]
            wrong = sorted(near)[::-1][:hard]
            for j, other in enumerate(lists["subject"]):
                if other != subject:
                    wrong += [e(query, row) for row in lists["offers"][j]]
            right = e(query, lists["keys"][i][p])
            losses.append(-math.log(right / (right + math.fsum(wrong))))
    return math.fsum(losses) / len(losses)


@pytest.mark.parametrize(("temperature", "hard"), [(0.5, 2), (0.1, 3), (1.0, 100)])
def test_agrees_with_the_paper(temperature: float, hard: int):
    loss = PlaceContrast(temperature, hard)
    expected = slow(temperature, hard, **given(double=True))
    assert float(loss(**given(double=True))) != pytest.approx(0)
    assert float(loss(**given())) == pytest.approx(slow(temperature, hard, **given()), rel=1e-5)
    assert float(loss(**given(double=True))) == pytest.approx(expected, rel=1e-12)


def test_known_values():
    """One point that is its key, two candidates at right angles of which one is too near, and
    nothing offered: ln (1 + 1 / e)."""
    eye = torch.eye(3)[None]
    value = PlaceContrast(1.0, 2)(
        eye[:, :1],
        eye[:, :1],
        torch.tensor([[True]]),
        eye[:, 1:],
        torch.tensor([[[True, False]]]),
        eye[:, :0],
        torch.tensor([0]),
    )
    assert float(value) == pytest.approx(math.log(1 + math.exp(-1)), rel=1e-6)


def test_where_all_is_the_same_it_is_the_log_of_how_many_there_are():
    made = given() | {
        name: torch.ones(3, n, 5) / math.sqrt(5)
        for name, n in (("queries", 4), ("keys", 4), ("candidates", 6), ("offers", 2))
    }
    made["allowed"], made["subject"] = torch.ones(3, 4, 6).bool(), torch.arange(3)
    assert float(PlaceContrast(0.5, 3)(**made)) == pytest.approx(math.log(1 + 3 + 2 * 2), rel=1e-6)


def test_where_no_point_counts_it_is_0_with_a_gradient_of_0():
    made = given() | {"counts": torch.zeros(3, 4).bool()}
    made["queries"].requires_grad_()
    value = PlaceContrast()(**made)
    value.backward()
    assert float(value.detach()) == 0
    assert not made["queries"].grad.any()


def test_points_without_any_negative_are_finite():
    made = given() | {"allowed": torch.zeros(3, 4, 6).bool(), "subject": torch.zeros(3).long()}
    made["queries"].requires_grad_()
    value = PlaceContrast()(**made)
    value.backward()
    assert float(value.detach()) == pytest.approx(0, abs=1e-6)
    assert made["queries"].grad.isfinite().all()


def test_invariances():
    loss, made = PlaceContrast(0.3, 2), given()
    value = loss(**made)
    points, candidates = torch.tensor([2, 0, 3, 1]), torch.tensor([5, 1, 0, 2, 4, 3])
    moved = made | {name: made[name][:, points] for name in ("queries", "keys", "counts")}
    moved["candidates"] = made["candidates"][:, candidates]
    moved["allowed"] = made["allowed"][:, points][:, :, candidates]
    torch.testing.assert_close(loss(**moved), value)
    samples = torch.tensor([2, 0, 1])
    torch.testing.assert_close(loss(**{name: rows[samples] for name, rows in made.items()}), value)
    rotation = torch.linalg.qr(torch.randn(5, 5))[0]
    names = ("queries", "keys", "candidates", "offers")
    torch.testing.assert_close(loss(**made | {n: made[n] @ rotation for n in names}), value)
    assert not torch.isclose(loss(**made | {"subject": torch.arange(3)}), value)
    assert not torch.isclose(PlaceContrast(0.3, 3)(**made), value)


def test_a_candidate_that_is_not_allowed_does_not_count():
    made = given()
    made["allowed"][:, :, 2] = False
    value = PlaceContrast(0.2, 6)(**made)
    made["candidates"][:, 2] = made["queries"][:, 0]
    assert torch.equal(PlaceContrast(0.2, 6)(**made), value)


def test_following_the_gradient_lowers_it():
    made = given()
    names = ("queries", "keys", "candidates", "offers")
    leaves = [made[name].requires_grad_() for name in names]
    loss, values = PlaceContrast(0.5, 3), []
    for _ in range(5):
        value = loss(**made)
        for leaf, gradient in zip(leaves, torch.autograd.grad(value, leaves), strict=True):
            with torch.no_grad():
                leaf -= gradient
        values.append(float(value.detach()))
    assert values == sorted(values, reverse=True)
    assert values[-1] < values[0] - 0.1


def test_gradient_agrees_with_finite_differences():
    made = given(double=True)
    rest = {name: made[name] for name in ("counts", "allowed", "subject")}

    def value(queries: Tensor, keys: Tensor, candidates: Tensor, offers: Tensor) -> Tensor:
        found: Tensor = PlaceContrast(0.3, 3)(
            queries=queries, keys=keys, candidates=candidates, offers=offers, **rest
        )
        return found

    names = ("queries", "keys", "candidates", "offers")
    assert torch.autograd.gradcheck(value, tuple(made[n].requires_grad_() for n in names))


def test_computes_in_float32_inside_autocast():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = PlaceContrast(0.1)(**given())
    assert inside.dtype == torch.float32
    assert torch.equal(inside, PlaceContrast(0.1)(**given()))


def test_refusals():
    with pytest.raises(ValueError, match="above 0"):
        PlaceContrast(0)
    with pytest.raises(ValueError, match="at least one hard negative"):
        PlaceContrast(hard=0)
    made = given()
    for name, wrong, words in (
        ("keys", made["keys"][:, :3], "queries and keys of one shape"),
        ("counts", made["counts"][:, :3], "counts"),
        ("candidates", made["candidates"][:2], "candidates must be"),
        ("offers", made["offers"][..., :4], "offers must be"),
        ("allowed", made["allowed"][:, :3], "allowed must be"),
        ("subject", made["subject"][:2], "subject"),
    ):
        with pytest.raises(ValueError, match=words):
            PlaceContrast()(**made | {name: wrong})
