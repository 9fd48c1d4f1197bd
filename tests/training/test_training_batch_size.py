import pytest
import torch

from medssl.errors import MedsslError
from medssl.training import batch_size
from medssl.training.batch_size import largest, largest_batch
from medssl.training.settings import LoopConfig
from medssl.training.task import Task
from medssl.training.trial import Trial, repeated


@pytest.mark.parametrize("true", [1, 2, 3, 7, 8, 37, 100, 1000])
def test_doubling_then_bisecting_comes_within_an_eighth(true):
    tried = []

    def fits(count):
        tried.append(count)
        return count <= true

    found = largest(fits, 2, 4096)
    assert found <= true
    assert found >= true * 8 / 9 - 1 if true > 1 else found == 0
    assert len(tried) < 18


def test_no_more_than_asked_for():
    assert largest(lambda count: True, 2, 37) == 37


class Wide(Task):
    """Takes memory in proportion to the samples."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, batch):
        wide = batch["image"].repeat(1, 2_000_000) * self.weight
        return wide.square().mean(), {}


SAMPLE = {"image": torch.ones(2, 1), "key": torch.arange(2)}
CONFIG = LoopConfig(device="cpu")


def test_on_a_cpu_no_batch_is_tried_that_would_not_fit(monkeypatch):
    """Each sample takes some 30 MB, and 600 MB are free: 60 % of them are some dozen samples."""
    tried = []
    step = Trial.step

    def noted(self, batch):
        tried.append(len(batch["key"]))
        step(self, batch)

    monkeypatch.setattr(Trial, "step", noted)
    monkeypatch.setattr(batch_size, "memory_free", lambda: 600_000_000)
    found = largest_batch(Wide(), SAMPLE, CONFIG, 10_000)
    assert 4 <= found <= 48
    assert max(tried) <= 48


def test_an_epoch_keeps_eight_steps_and_micro_steps_share_a_step():
    assert largest_batch(Wide(), SAMPLE, CONFIG, 40) == 5
    assert largest_batch(Wide(), SAMPLE, LoopConfig(device="cpu", accumulate=2), 40) == 4


def test_two_samples_that_do_not_fit_are_an_error(monkeypatch):
    monkeypatch.setattr(batch_size, "memory_free", lambda: 0)
    monkeypatch.setattr(batch_size, "memory_used", lambda: 0)
    with pytest.raises(MedsslError, match="OUT_OF_MEMORY"):
        largest_batch(Wide(), SAMPLE, CONFIG, 40)


def test_several_processes_are_told_to_find_it_with_one():
    with pytest.raises(MedsslError, match="CONFIG_INVALID"):
        largest_batch(Wide(), SAMPLE, LoopConfig(device="cpu", devices=2), 40)


def test_a_repeated_batch_has_keys_of_its_own():
    batch = repeated({"image": torch.tensor([[1.0], [2.0]]), "key": torch.tensor([5, 5])}, 5)
    assert batch["image"].ravel().tolist() == [1, 2, 1, 2, 1]
    assert batch["key"].tolist() == [0, 1, 2, 3, 4]
