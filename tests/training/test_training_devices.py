import pytest
from torch import nn

from medssl.errors import MedsslError
from medssl.networks import BatchNorm
from medssl.training.devices import check, check_shares, is_leader, layout
from medssl.training.settings import LoopConfig

NAMES = (
    "TORCHELASTIC_RUN_ID", "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE",
    "SLURM_NTASKS", "SLURM_NNODES", "SLURM_PROCID", "SLURM_STEP_ID",
)  # fmt: skip


@pytest.fixture
def started(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)

    def start(**values):
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return start


def test_alone(started):
    assert layout(LoopConfig()) == (1, 1)
    assert layout(LoopConfig(devices=3)) == (3, 1)
    assert is_leader()
    with pytest.raises(MedsslError, match="torchrun"):
        layout(LoopConfig(nodes=2))


def test_torchrun_says_how_many(started):
    started(TORCHELASTIC_RUN_ID="x", RANK="5", LOCAL_RANK="1", WORLD_SIZE="8", LOCAL_WORLD_SIZE="4")
    assert layout(LoopConfig()) == layout(LoopConfig(devices=4, nodes=2)) == (4, 2)
    assert not is_leader()
    with pytest.raises(MedsslError, match="devices=3.*started 4") as caught:
        layout(LoopConfig(devices=3))
    assert caught.value.where == "devices"


def test_slurm_says_how_many_where_srun_started_several(started):
    started(SLURM_NTASKS="6", SLURM_NNODES="3", SLURM_PROCID="0")
    assert layout(LoopConfig()) == (1, 1), "the batch script itself, outside srun"
    started(SLURM_STEP_ID="0")
    assert layout(LoopConfig()) == (2, 3)
    assert is_leader()
    started(SLURM_PROCID="1")
    assert not is_leader()


def test_shares_must_be_even_and_batch_norm_joint(started):
    check_shares(LoopConfig(batch_size=12, accumulate=2), nn.Linear(1, 1), 3)
    with pytest.raises(MedsslError, match="multiple of 6"):
        check_shares(LoopConfig(batch_size=10, accumulate=2), nn.Linear(1, 1), 3)
    joint, alone = nn.Sequential(BatchNorm(2)), nn.Sequential(nn.BatchNorm1d(2))
    check_shares(LoopConfig(), joint, 2)
    check(LoopConfig(device="cpu"), alone)
    with pytest.raises(MedsslError, match="CONFIG_INVALID"):
        check_shares(LoopConfig(), alone, 2)
