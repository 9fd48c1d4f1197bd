"""What is asked of a run of every method: resumed exactly, shared exactly, watched."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from method_cases import case, make
from safetensors.torch import load_file

from medssl import tracking
from medssl.errors import MedsslError
from medssl.methods import METHODS
from medssl.training.loop import LoopConfig, fit
from medssl.training.pretrain_task import PretrainTask
from medssl.training.watch import Watch, WatchConfig

SCRIPT = Path(__file__).parent / "joined.py"
JOINED = runpy.run_path(str(SCRIPT))
SHORT = {
    "steps": 3, "batch_size": 8, "optimiser": "sgd", "lr": 0.05, "device": "cpu", "log_every": 1,
}  # fmt: skip
WATCHED = {
    "steps": 70, "batch_size": 8, "lr": 3e-3, "log_every": 2, "device": "cpu",
    "checkpoint_every": 1000,
}  # fmt: skip
TOGETHER = [name for name in METHODS if case(name).joined]


def difference(a, b):
    assert set(a) == set(b)
    return max(float((a[name].double() - b[name].double()).abs().max()) for name in a)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """All methods by two processes."""
    out = tmp_path_factory.mktemp("two")
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        str(SCRIPT), str(out), json.dumps({name: [name, SHORT] for name in TOGETHER}),
    ]  # fmt: skip
    ran = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr[-2000:]
    return out


@pytest.mark.parametrize("name", TOGETHER)
def test_two_processes_learn_what_one_does(tmp_path, two, name):
    """Losses compare the samples of all, batch norms and queues see them, teachers follow alike."""
    with tracking.run("test", "test", tmp_path, silent=True) as run:
        task, history = JOINED["train"](tmp_path / "one", name, SHORT, run)
    first, second = (load_file(two / f"{name}-{rank}.safetensors") for rank in (0, 1))
    assert difference(first, second) == 0.0
    one = task.state_dict()
    assert difference({"recent": one.pop("recent")}, {"recent": first.pop("recent")}) < 1e-4
    assert difference(one, first) < 1e-5
    rows = json.loads((two / f"{name}-1.json").read_text())
    for key in ("loss", "gradient_norm", "effective_rank", "embedding_std"):
        assert [r[key] for r in rows] == pytest.approx([r[key] for r in history.rows], rel=1e-4)


class Killed(Exception):  # noqa: N818
    """Stands for kill -9."""


@pytest.mark.parametrize("name", METHODS)
def test_killed_and_resumed_equals_whole(tmp_path, name):
    values = SHORT | {"steps": 5, "optimiser": "adamw", "lr": 1e-3, "checkpoint_every": 2}

    def train(folder, **more):
        with tracking.run("test", "test", tmp_path, silent=True) as run:
            return JOINED["train"](folder, name, values, run, **more)

    def kill(step, _):
        if step == 4:
            raise Killed

    whole, rows = train(tmp_path / "whole")
    with pytest.raises(Killed):
        train(tmp_path / "killed", after_step=kill)
    resumed, rows_again = train(tmp_path / "killed", resume=True)
    assert difference(whole.state_dict(), resumed.state_dict()) == 0.0
    assert rows.rows == rows_again.rows


def watched(folder, name, change=None, options=None, **values):
    """Train a method under the watch; its last row."""
    method = make(name, **(options or {}))
    if change is not None:
        change(method)
    task, loop = PretrainTask(method), LoopConfig(**(WATCHED | values))
    watch = Watch.of(task, WatchConfig(grace=20, patience=5), loop)
    with tracking.run("test", "test", folder, silent=True) as run:
        history = fit(task, None, loop, folder, run, watchers=[watch], batches=JOINED["batches"])
    return history.rows[-1]


@pytest.mark.parametrize("name", METHODS)
def test_a_healthy_run_is_let_alone(tmp_path, name):
    assert watched(tmp_path, name)["step"] == WATCHED["steps"]


BROKEN = [(name, how) for name in METHODS for how in case(name).broken]


@pytest.mark.parametrize(("name", "how"), BROKEN)
def test_a_run_that_is_broken_on_purpose_stops(tmp_path, name, how):
    broken = case(name).broken[how]
    with pytest.raises(MedsslError, match="TRAINING_COLLAPSED|TRAINING_DIVERGED"):
        watched(tmp_path, name, broken.change, broken.options, **broken.values)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["byol", "dino", "directpred", "moco", "pixpro"])
def test_a_teacher_that_copies_its_student_does_not_collapse(tmp_path, name):
    """Each has something else that keeps it from that: a predictor, a centre, negatives,
    propagation."""

    def copying(method):
        method.after_update = lambda progress: method.teacher.update(0.0)

    assert watched(tmp_path, name, copying, steps=160)["step"] == 160


@pytest.mark.parametrize("name", METHODS)
def test_a_thousandfold_learning_rate_stops_the_run(tmp_path, name):
    with pytest.raises(MedsslError, match="TRAINING_COLLAPSED|TRAINING_DIVERGED"):
        watched(tmp_path, name, lr=1000 * WATCHED["lr"])
