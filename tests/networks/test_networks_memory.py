import torch

from medssl.networks import Memory


def test_a_memory_keeps_the_last_row_of_every_volume():
    memory = Memory(6, 2)
    assert memory.seen().tolist() == []
    memory.put(torch.tensor([4, 1]), torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    memory.put(torch.tensor([4, 0, 4]), torch.tensor([[2.0, 2.0], [3.0, 3.0], [5.0, 5.0]]))
    assert memory.seen().tolist() == [0, 1, 4]
    assert memory.rows[[0, 1, 4]].tolist() == [[3.0, 3.0], [0.0, 1.0], [2.0, 2.0]]
    assert set(memory.state_dict()) == {"rows"}
