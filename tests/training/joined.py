"""Train a method for some steps on samples held in memory, in one process or started in several.

    python joined.py OUT METHOD,METHOD '{"steps": 3, ...}'

writes OUT/METHOD-RANK.safetensors of each. Every process makes all samples and takes its share.
"""

import json
import os
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from method_cases import images, make

from medssl import tracking
from medssl.networks import Teacher, cosine_between
from medssl.training.loop import LoopConfig, fit
from medssl.training.pretrain_task import PretrainTask
from medssl.views.draw import sample_key

SIZE = (16, 16)


def sample(number):
    return {
        "image": images(1, 2, SIZE[0], number % 64)[0],
        "label": torch.zeros(1, *SIZE, dtype=torch.int64),
        "target": torch.tensor(number % 2),
        "normalisation": torch.tensor([-9.0, 9.0, 0.0, 1.0]),
        "spacing": torch.ones(2),
        "key": torch.tensor(sample_key(0, 0, number)),
        "volume": torch.tensor(number % 64),
    }


def batches(source, batch_size, first_step, steps, workers, *, rank=0, world=1, accumulate=1):
    share = batch_size // (world * accumulate)
    for step in range(first_step, steps):
        for micro in range(accumulate):
            start = step * batch_size + (micro * world + rank) * share
            rows = [sample(number) for number in range(start, start + share)]
            yield {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


class WithTeacher(PretrainTask):
    """A method with a teacher that follows its encoder."""

    def __init__(self, method):
        super().__init__(method)
        self.teacher = Teacher(method.encoder)

    def after_update(self, progress):
        super().after_update(progress)
        self.teacher.update(cosine_between(0.5, 1.0, progress))


def task_of(name):
    return WithTeacher(make(name, side=SIZE[0]))


def train(out, name, values, run, **more):
    task = task_of(name)
    out.mkdir(parents=True, exist_ok=True)
    history = fit(task, None, LoopConfig(**values), out, run, batches=batches, **more)
    return task, history


if __name__ == "__main__":
    out, values = Path(sys.argv[1]), json.loads(sys.argv[3])
    rank = os.environ.get("RANK", "0")
    port = int(os.environ.get("MASTER_PORT", "0"))
    for number, name in enumerate(sys.argv[2].split(",")):
        # The processes part at the end of a run: for each they meet at a place of its own.
        os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "False"
        os.environ["MASTER_PORT"] = str(port + 1 + number)
        with tracking.run("test", "test", out, silent=True) as run:
            task, history = train(out / name, name, values, run)
        save_file(task.state_dict(), out / f"{name}-{rank}.safetensors")
        (out / f"{name}-{rank}.json").write_text(json.dumps(history.rows))
