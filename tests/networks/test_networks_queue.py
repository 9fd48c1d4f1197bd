import pytest
import torch

from medssl.networks import Queue


def test_the_oldest_go_first():
    queue = Queue(4, 2)
    torch.testing.assert_close(queue.rows.norm(dim=1), torch.ones(4))
    kept, new = queue.rows.clone(), torch.arange(6.0).reshape(3, 2)
    queue.push(new.requires_grad_())
    assert torch.equal(queue.rows, torch.cat((kept[3:], new)))
    assert not queue.rows.requires_grad
    queue.push(torch.arange(12.0).reshape(6, 2))
    assert torch.equal(queue.rows, torch.arange(4.0, 12.0).reshape(4, 2))
    assert set(queue.state_dict()) == {"rows"}


def test_the_nearest_has_the_largest_inner_product():
    queue = Queue(3, 2)
    queue.push(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]))
    found = queue.nearest(torch.tensor([[0.2, 0.3], [-0.9, 0.1], [2.0, 1.0]]))
    assert torch.equal(found, queue.rows[[1, 2, 0]])
    rows = torch.randn(5, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(queue.nearest(rows), queue.rows[(rows @ queue.rows.T).argmax(1)])


def test_it_keeps_at_least_one_row():
    with pytest.raises(ValueError, match="at least one row"):
        Queue(0, 2)
