from __future__ import annotations

import pytest
import torch

from medssl.networks import SubjectQueue


def test_others_are_rows_of_other_subjects_in_the_batch_and_before():
    queue = SubjectQueue(3, 2)
    rows, subject = torch.arange(4.0).reshape(2, 2), torch.tensor([7, 5])
    found, allowed = queue.others(rows, subject)
    assert torch.equal(found[:2], rows)
    assert allowed.tolist() == [[False, True, False, False, False], [True, *[False] * 4]]
    queue.push(rows, subject)
    later, owners = rows + 10, torch.tensor([5, 9])
    found, allowed = queue.others(later, owners)
    assert torch.equal(found, torch.cat((later, torch.zeros(1, 2), rows)))
    assert allowed.tolist() == [
        [False, True, False, True, False],
        [True, False, False, True, True],
    ]
    queue.push(later, owners)
    assert torch.equal(queue.rows, torch.cat((rows[1:], later)))
    assert queue.subject.tolist() == [5, 5, 9]


def test_a_large_batch_fills_it_and_nothing_is_kept_where_nothing_is_asked_for():
    rows, subject = torch.randn(5, 2), torch.arange(5)
    queue, none = SubjectQueue(3, 2), SubjectQueue(0, 2)
    for each in (queue, none):
        each.push(rows, subject)
    assert torch.equal(queue.rows, rows[2:])
    assert len(none.rows) == 0
    found, allowed = none.others(rows, subject)
    assert torch.equal(found, rows)
    assert torch.equal(allowed, ~torch.eye(5, dtype=torch.bool))
    with pytest.raises(ValueError, match="not -1"):
        SubjectQueue(-1, 2)
