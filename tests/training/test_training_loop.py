import json
import os
import random
import runpy
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from medssl import tracking
from medssl.errors import MedsslError
from medssl.training.loop import LoopConfig, Task, fit

SCRIPT = Path(__file__).parent / "joined.py"
JOINED = runpy.run_path(str(SCRIPT))
BASE = {
    "steps": 3, "batch_size": 8, "optimiser": "sgd", "lr": 0.1, "device": "cpu", "log_every": 1,
}  # fmt: skip


def train(out, name="mae", resume=False, after_step=None, watchers=(), **values):
    with tracking.run("test", "test", out, silent=True) as run:
        return JOINED["train"](
            out, name, BASE | values, run, resume=resume, after_step=after_step, watchers=watchers
        )


def difference(a, b):
    assert set(a) == set(b)
    return max(float((a[name].double() - b[name].double()).abs().max()) for name in a)


SHARDED = BASE | {"strategy": "fsdp", "steps": 4, "checkpoint_every": 2, "optimiser": "adamw"}
SHARDED |= {"lr": 0.01, "clip": 0.01, "weight_decay": 0.1}
CASES = {
    "sharded-adamw": ["mae/vit", SHARDED | {"accumulate": 2}],
    "sharded-lars": ["simclr", SHARDED | {"optimiser": "lars", "lr": 1.0}],
    "sharded-swin": ["simclr/swin", SHARDED | {"optimiser": "sgd", "lr": 0.1}],
    "sharded-mednext": ["mae/mednext", SHARDED | {"optimiser": "sgd", "lr": 0.1}],
    "sharded-resnet": ["simclr/resnet", SHARDED | {"optimiser": "sgd", "lr": 0.1}],
    "sharded-bf16": ["mae", SHARDED | {"optimiser": "sgd", "precision": "bf16"}],
    "resumed-lamb": ["mae/vit", SHARDED | {"optimiser": "lamb"}],
}


def interrupted(folder, other):
    """What is left of a run that was stopped between its two checkpoints."""
    shutil.copytree(folder, other)
    shutil.rmtree(other / "checkpoints" / "step-00000004")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with `one` and `two`: every case by one process, and by two together."""
    out = tmp_path_factory.mktemp("runs")
    for case, (name, values) in CASES.items():
        task, history = train(out / "one" / case, name, **values | {"strategy": "auto"})
        save_file(task.state_dict(), out / "one" / f"{case}.safetensors")
        (out / "one" / f"{case}.json").write_text(json.dumps(history.rows))
        if case.startswith("resumed"):
            interrupted(out / "one" / case, out / "two" / case)
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        str(SCRIPT), str(out / "two"), json.dumps(CASES),
    ]  # fmt: skip
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr[-2000:]
    return out


def states(runs, case):
    """The weights that one process ended with, and each of two."""
    names = [f"one/{case}", f"two/{case}-0", f"two/{case}-1"]
    return [load_file(runs / f"{name}.safetensors") for name in names]


@pytest.mark.parametrize("case", CASES)
def test_two_processes_learn_what_one_does(runs, case):
    """Sharded: the teacher follows the student's parts; clipping and LARS see whole gradients."""
    one, first, second = states(runs, case)
    assert difference(first, second) == 0.0, "the teacher and batch norm are the same too"
    assert difference({"recent": one.pop("recent")}, {"recent": first.pop("recent")}) < 1e-4
    assert difference(one, first) < (1e-4 if "bf16" in case else 1e-5)
    rows, expected = (
        json.loads((runs / f"{name}.json").read_text()) for name in (f"two/{case}-1", f"one/{case}")
    )
    for key in ("loss", "gradient_norm", "effective_rank", "embedding_std"):
        values = [row[key] for row in expected]
        rel = 1e-2 if "bf16" in case else 1e-5
        assert [row[key] for row in rows] == pytest.approx(values, rel=rel)
    assert len(list((runs / "two" / case).rglob("history.csv"))) == 1


def test_modules_of_a_sharded_task_can_be_used_between_steps(runs):
    rows = json.loads((runs / "two" / "sharded-adamw-1.json").read_text())
    task, history = train(runs / "again", "mae/vit", **SHARDED)
    assert [row["seen"] for row in rows] == pytest.approx([r["seen"] for r in history.rows])
    assert [rows[0]["part"], history.rows[0]["part"]] == pytest.approx([0.5, 1.0], abs=0.02)
    assert type(task).__name__ == "WithTeacher", "as it was before"
    assert difference(task.state_dict(), states(runs, "sharded-adamw")[0]) < 1e-5


def test_a_sharded_run_goes_on_in_one_process(runs):
    name, values = CASES["sharded-adamw"]
    interrupted(runs / "two" / "sharded-adamw", runs / "whole")
    task, _ = train(runs / "whole", name, True, **values | {"strategy": "auto"})
    assert difference(task.state_dict(), states(runs, "sharded-adamw")[0]) < 1e-5


def test_micro_steps_add_up_to_the_joined_batch(tmp_path):
    whole, rows = train(tmp_path / "whole")
    parts, part_rows = train(tmp_path / "parts", accumulate=4)
    assert difference(whole.state_dict(), parts.state_dict()) < 1e-6
    losses = [row["loss"] for row in rows.rows]
    assert [row["loss"] for row in part_rows.rows] == pytest.approx(losses, rel=1e-5)


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"accumulate": 3}, "batch_size"),
        ({"nodes": 2}, "nodes"),
        ({"precision": "fp16"}, "precision"),
        ({"precision": "fp16", "strategy": "fsdp", "device": "cuda"}, "precision"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, values, where):
    with pytest.raises(MedsslError, match="CONFIG_INVALID") as caught:
        train(tmp_path, **values)
    assert caught.value.where == where


class Follower:
    def __init__(self):
        self.seen, self.norms, self.rows = [], [], []

    def before_step(self, step, batch):
        self.seen.append((step, len(batch["key"])))

    def after_backward(self, step, loss, norm):
        self.norms.append((step, norm.item()))

    def on_row(self, step, row):
        self.rows.append((step, row["loss"]))
        row["loss"] = 0.0


def test_watchers_follow_every_micro_step_and_every_row(tmp_path):
    follower = Follower()
    _, history = train(tmp_path, accumulate=2, log_every=2, watchers=[follower])
    assert follower.seen == [(1, 4), (1, 4), (2, 4), (2, 4), (3, 4), (3, 4)]
    assert follower.norms == [(row["step"], row["gradient_norm"]) for row in history.rows]
    assert follower.rows == [(row["step"], row["loss"]) for row in history.rows]
    assert [row["step"] for row in history.rows] == [1, 2, 3]
    assert all(row["loss"] > 0 for row in history.rows), "a watcher changes no row"


def test_a_watcher_sees_what_diverged_before_the_run_ends(tmp_path):
    follower = Follower()
    with pytest.raises(MedsslError, match="TRAINING_DIVERGED"):
        train(tmp_path, watchers=[follower], lr=1e30, clip=1e30, steps=9, warmup=0.0)
    assert not abs(follower.rows[-1][1]) < float("inf")


class Noisy(Task):
    """Uses torch's own generator, as dropout does."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(4, 4))

    def forward(self, batch):
        noise = torch.rand(4, 4) * torch.randn(())
        return (self.weight * noise).square().mean() + self.weight.mean(), {}


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
def test_a_signal_ends_the_step_and_leaves_a_checkpoint(tmp_path, name):
    config = LoopConfig(**BASE | {"steps": 5})

    def run(task, folder, **more):
        folder.mkdir(exist_ok=True)
        with tracking.run("test", "test", folder, silent=True) as silent:
            fit(task, None, config, folder, silent, batches=JOINED["batches"], **more)
        return (folder / "history.csv").read_text()

    whole = Noisy()
    expected = run(whole, tmp_path / "whole")

    def stop(step, _):
        if step == 2:
            os.kill(os.getpid(), getattr(signal, name))

    before = signal.getsignal(getattr(signal, name))
    with pytest.raises(MedsslError, match="RUN_STOPPED.*step 2.*--resume") as caught:
        run(Noisy(), tmp_path / "run", after_step=stop)
    assert caught.value.exit_code == 7
    assert signal.getsignal(getattr(signal, name)) is before
    resumed = Noisy()
    assert run(resumed, tmp_path / "run", resume=True) == expected
    assert torch.equal(whole.weight, resumed.weight)


def killed_somewhere(out, rng, values, resume):
    """Train in a process that is killed, without warning, at some moment; whether it was."""
    process = os.fork()
    if process == 0:
        moment, slow = rng.randrange(1, values["steps"]), rng.random() < 0.5

        def kill(step, _):
            if step == moment:
                if slow:  # somewhere in what follows, while a checkpoint is written perhaps
                    signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.0001, 0.02))
                else:
                    os.kill(os.getpid(), signal.SIGKILL)

        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        try:
            train(out, "simclr", resume=resume, after_step=kill, **values)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(process, 0)[1])


def killed_equals_whole(tmp_path, kills, seed):
    values = {"steps": 14, "checkpoint_every": 2, "optimiser": "adamw", "lr": 0.01}
    values |= {"weight_decay_end": 0.2}
    whole, _ = train(tmp_path / "whole", "simclr", **values)
    rng, counted = random.Random(seed), 0
    folder = tmp_path / "run"
    for _ in range(kills):
        counted += killed_somewhere(folder, rng, values, any(folder.glob("checkpoints/step-*")))
        rng.random()
    assert counted
    resumed, _ = train(folder, "simclr", any(folder.glob("checkpoints/step-*")), **values)
    assert difference(whole.state_dict(), resumed.state_dict()) == 0.0
    first, second = ((tmp_path / n / "history.csv").read_bytes() for n in ("whole", "run"))
    assert first == second


def test_a_run_killed_anywhere_equals_the_whole_one(tmp_path):
    killed_equals_whole(tmp_path, kills=3, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_runs_killed_many_times_equal_the_whole_one(tmp_path, seed):
    killed_equals_whole(tmp_path, kills=15, seed=seed)


@pytest.mark.slow
def test_compiling_changes_no_names_and_little_else(tmp_path):
    plain, _ = train(tmp_path / "plain")
    compiled, _ = train(tmp_path / "compiled", compile=True)
    assert difference(plain.state_dict(), compiled.state_dict()) < 1e-4
