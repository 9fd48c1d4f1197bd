import pytest
import torch
from torch import nn

from medssl.errors import MedsslError
from medssl.training.checkpoint import CheckpointWriter, drop_after, load_newest, save
from medssl.training.optim import make_optimiser
from medssl.training.settings import LoopConfig


def trained(seed=0, steps=3):
    torch.manual_seed(seed)
    module = nn.Linear(3, 2)
    optimiser = make_optimiser(module, LoopConfig(lr=0.1, weight_decay=0.1))
    for _ in range(steps):
        _step(module, optimiser)
    return module, optimiser


def _step(module, optimiser):
    module(torch.ones(1, 3)).square().sum().backward()
    optimiser.step()
    optimiser.zero_grad()


def test_restored_equals_uninterrupted(tmp_path):
    module, optimiser = trained()
    save(tmp_path, 3, module, optimiser, {"rows": [1]})
    other, other_optimiser = trained(seed=1, steps=1)
    assert load_newest(tmp_path, other, other_optimiser) == (3, {"rows": [1]})
    for pair in ((module, optimiser), (other, other_optimiser)):
        _step(*pair)
    assert torch.equal(module.weight, other.weight)
    assert torch.equal(module.bias, other.bias)


def test_the_newest_two_are_kept_and_a_torn_one_is_passed_over(tmp_path):
    module, optimiser = trained()
    for step in (1, 2, 3):
        newest = save(tmp_path, step, module, optimiser, {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]
    file = newest / "state.safetensors"
    file.write_bytes(file.read_bytes()[:-7])
    assert load_newest(tmp_path, module, optimiser)[0] == 2


def test_none_intact_is_an_error(tmp_path):
    module, optimiser = trained()
    newest = save(tmp_path, 1, module, optimiser, {})
    (newest / "state.json").write_text("{")
    with pytest.raises(MedsslError, match="CHECKPOINT_CORRUPT"):
        load_newest(tmp_path, module, optimiser)


def test_what_is_written_is_the_state_when_it_was_saved(tmp_path):
    module, optimiser = trained()
    expected = module.weight.detach().clone()
    with CheckpointWriter(tmp_path) as writer:
        writer.save(3, module, optimiser, {})
        with torch.no_grad():
            module.weight.zero_()
    load_newest(tmp_path, module, optimiser)
    assert torch.equal(module.weight, expected)


def test_a_branch_is_kept_beside_and_may_be_where_one_goes_on(tmp_path):
    module, optimiser = trained()
    with CheckpointWriter(tmp_path) as writer:
        writer.save(2, module, optimiser, {}, "hold")
        for step in (3, 4, 5):
            writer.save(step, module, optimiser, {})
    assert load_newest(tmp_path, module)[0] == 5
    assert load_newest(tmp_path, module, usable=lambda step, _: step < 3)[0] == 2
    drop_after(tmp_path, 2)
    assert load_newest(tmp_path, module)[0] == 2


def test_a_write_that_failed_is_not_passed_over(tmp_path):
    module, optimiser = trained()
    (tmp_path / "checkpoints").write_text("in the way")
    with (
        pytest.raises(OSError, match="checkpoints"),
        CheckpointWriter(tmp_path / "checkpoints") as w,
    ):
        w.save(1, module, optimiser, {})
