from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from medssl.losses import CellInfoNCE


def slow(given: dict[str, Any], temperature: float) -> float:
    """The class's formula, query by query."""
    lists = {
        name: rows.double().tolist() if rows.is_floating_point() else rows.tolist()
        for name, rows in given.items()
    }

    def share(a: list[float], b: list[float]) -> float:
        dot = math.fsum(x * y for x, y in zip(a, b, strict=True))
        return math.exp(dot / (math.hypot(*a) * math.hypot(*b)) / temperature)

    samples = []
    for b, queries in enumerate(lists["queries"]):
        losses = []
        for p, query in enumerate(queries):
            if not lists["valid"][b][p]:
                continue
            right = share(query, lists["keys"][b][p])
            rest = [
                share(query, other)
                for other, may in zip(lists["others"], lists["allowed"][b], strict=True)
                if may
            ]
            if "own" in lists:
                rest += [
                    share(query, cell)
                    for cell, may in zip(lists["own"][b], lists["far"][b][p], strict=True)
                    if may
                ]
            losses.append(-math.log(right / (right + sum(rest))))
        samples.append(sum(losses) / len(losses) if losses else 0.0)
    return sum(samples) / len(samples)


def cells(places: bool = True) -> dict[str, Tensor]:
    """3 samples of 4 cells, 6 others; the last sample has no valid cell, the second no negative
    among the others."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    def coins(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator) < 0.6

    given = {
        "queries": normal(3, 4, 5), "keys": normal(3, 4, 5), "valid": coins(3, 4),
        "others": normal(6, 5), "allowed": coins(3, 6),
    }  # fmt: skip
    given["valid"][2], given["allowed"][1] = False, False
    if places:
        given |= {"own": normal(3, 7, 5), "far": coins(3, 4, 7)}
        given["far"][0, 0], given["far"][1, 1] = False, False
    return given


def doubled(given: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.double() if v.is_floating_point() else v for k, v in given.items()}


@pytest.mark.parametrize("places", [False, True])
@pytest.mark.parametrize("temperature", [0.02, 0.2, 2.0])
def test_agrees_with_the_paper(temperature: float, places: bool):
    given = cells(places)
    loss, expected = CellInfoNCE(temperature), slow(given, temperature)
    assert float(loss(**given)) == pytest.approx(expected, rel=1e-5)
    assert float(loss(**doubled(given))) == pytest.approx(expected, rel=1e-12)


def test_it_is_info_nce_where_every_other_sample_is_a_negative():
    from medssl.losses import InfoNCE

    given = cells(places=False)
    query, key = given["queries"][:, 0], given["keys"][:, 0]
    apart = ~torch.eye(3, dtype=torch.bool)
    valid = torch.ones(3, 1, dtype=torch.bool)
    got = CellInfoNCE(0.3)(query[:, None], key[:, None], valid, key, apart)
    torch.testing.assert_close(got, InfoNCE(0.3)(query, key))


def test_known_values():
    ones, eye = torch.ones(2, 3, 4), torch.eye(3)[None]
    valid = torch.tensor([[True, True, True], [True, False, False]])
    allowed = torch.tensor([[True, True, True, True], [True, False, False, False]])
    loss = CellInfoNCE(0.2)
    same = loss(ones, ones, valid, torch.ones(4, 4), allowed)
    assert float(same) == pytest.approx((math.log(5) + math.log(2)) / 2, rel=1e-6)
    assert float(loss.trivial(valid, allowed)) == pytest.approx(float(same), rel=1e-6)
    # Every cell is its own key, the two others are far.
    no = torch.zeros(1, 1, dtype=torch.bool)
    far = ~torch.eye(3, dtype=torch.bool)[None]
    got = CellInfoNCE(1.0)(eye, eye, valid[:1], torch.ones(1, 3), no, eye, far)
    assert float(got) == pytest.approx(-math.log(math.e / (math.e + 2)), rel=1e-6)
    assert float(loss.trivial(valid[:1], no, far)) == pytest.approx(math.log(3), rel=1e-6)


def test_where_nothing_counts_the_loss_is_0_and_its_gradient_too():
    given = cells()
    for off in (("valid",), ("allowed", "far")):
        some = given | {name: torch.zeros_like(given[name]) for name in off}
        queries = given["queries"].clone().requires_grad_()
        value = CellInfoNCE(0.1)(**(some | {"queries": queries}))
        value.backward()
        assert float(value.detach()) == 0.0
        assert torch.equal(queries.grad, torch.zeros_like(queries))
        assert float(CellInfoNCE().trivial(some["valid"], some["allowed"], some["far"])) == 0.0


def test_invariances():
    given, loss = cells(), CellInfoNCE(0.3)
    value = loss(**given)
    samples, places = torch.tensor([2, 0, 1]), torch.tensor([3, 1, 0, 2])
    mixed = {k: v if k == "others" else v[samples] for k, v in given.items()}
    torch.testing.assert_close(loss(**mixed), value)
    by_cell = {k: given[k][:, places] for k in ("queries", "keys", "valid", "far")}
    torch.testing.assert_close(loss(**(given | by_cell)), value)
    order = torch.tensor([5, 0, 3, 1, 4, 2])
    turned = {"others": given["others"][order], "allowed": given["allowed"][:, order]}
    torch.testing.assert_close(loss(**(given | turned)), value)
    rotation = torch.linalg.qr(torch.randn(5, 5))[0]
    for change in (lambda rows: rows @ rotation, lambda rows: 3 * rows):
        moved = {k: change(v) if v.is_floating_point() else v for k, v in given.items()}
        torch.testing.assert_close(loss(**moved), value)
    assert not torch.isclose(loss(**(given | {"keys": given["keys"][:, places]})), value)


def test_following_the_gradient_lowers_it_and_only_queries_have_one():
    given = {k: v.requires_grad_(v.is_floating_point()) for k, v in cells().items()}
    loss, values, queries = CellInfoNCE(0.5), [], given["queries"]
    for _ in range(5):
        value = loss(**given)
        (gradient,) = torch.autograd.grad(value, queries)
        with torch.no_grad():
            queries -= gradient
        values.append(float(value.detach()))
    assert values == sorted(values, reverse=True)
    assert values[-1] < values[0] - 0.1
    rest = [given[name] for name in ("keys", "others", "own")]
    assert torch.autograd.grad(loss(**given), rest, allow_unused=True) == (None,) * 3


def test_gradient_agrees_with_finite_differences():
    given = doubled(cells())
    queries = given.pop("queries").requires_grad_()
    assert torch.autograd.gradcheck(lambda rows: CellInfoNCE(0.3)(rows, **given), queries)


def test_computes_in_float32_inside_autocast():
    given = cells()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = CellInfoNCE(0.1)(**given)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, CellInfoNCE(0.1)(**given))


def test_refusals():
    given = cells()
    wrong: list[dict[str, Tensor | None]] = [
        {"keys": given["keys"][:, :3]}, {"valid": given["valid"][:, :3]}, {"own": None},
        {"others": given["others"][:, :3]}, {"allowed": given["allowed"][:, :3]},
        {"own": given["own"][:2]}, {"far": given["far"][:, :3]},
        {"queries": given["queries"][0]},
        {"others": given["others"][:0], "allowed": given["allowed"][:, :0]},
    ]  # fmt: skip
    for change in wrong:
        with pytest.raises(ValueError, match=r"takes queries and keys \(B, P, D\)"):
            CellInfoNCE()(**(given | change))
    with pytest.raises(ValueError, match="above 0"):
        CellInfoNCE(0)
