"""Train a method for some steps on samples held in memory, in one process or started in several.

    python joined.py OUT '{"CASE": ["METHOD/ENCODER", {"steps": 3, ...}], ...}'

writes OUT/CASE-RANK.safetensors; a case called "resumed..." goes on with the run in OUT/CASE. Every
process makes all samples and takes its share.
"""

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from method_cases import images, make, places

from medssl import tracking
from medssl.networks import Teacher, cosine_between
from medssl.training.loop import LoopConfig, fit
from medssl.training.pretrain_task import PretrainTask
from medssl.training.sharding import local, usable
from medssl.views.draw import sample_key

SIZE = (16, 16)


def sample(number):
    place, extent = places(1, 2, SIZE[0], number % 64)
    return {
        "image": images(1, 2, SIZE[0], number % 64)[0],
        "label": torch.zeros(1, *SIZE, dtype=torch.int64),
        "target": torch.tensor(number % 2),
        "normalisation": torch.tensor([-9.0, 9.0, 0.0, 1.0]),
        "spacing": torch.ones(2),
        "key": torch.tensor(sample_key(0, 0, number)),
        "volume": torch.tensor(number % 64),
        "subject": torch.tensor(number % 64),
        "place": place[0],
        "extent": extent[0],
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
    name, _, encoder = name.partition("/")
    return WithTeacher(make(name, encoder, side=SIZE[0]))


def train(out, name, values, run, **more):
    task = task_of(name)
    out.mkdir(parents=True, exist_ok=True)

    def look(step, batch):
        parameters = list(task.parameters())
        part = sum(local(p).numel() for p in parameters) / sum(p.numel() for p in parameters)
        with usable(task), torch.no_grad():
            feature = task.method.encoder(torch.ones(1, 1, *SIZE))[-1]
        return {"part": part, "seen": feature.abs().mean().item()}

    if values.get("strategy") == "fsdp":
        more["after_step"] = look
    history = fit(task, None, LoopConfig(**values), out, run, batches=batches, **more)
    return task, history


def main(out, cases):
    rank = int(os.environ["RANK"])
    for number, (case, (name, values)) in enumerate(cases.items()):
        if number:  # torchrun's store remembers the group of the case before
            store = dist.FileStore(str(out / f"{case}.store"), 2)
            dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
            dist.barrier()
        with tracking.run("test", "test", out, silent=True) as run:
            task, history = train(out / case, name, values, run, resume=case.startswith("resumed"))
        save_file(task.state_dict(), out / f"{case}-{rank}.safetensors")
        (out / f"{case}-{rank}.json").write_text(json.dumps(history.rows))


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
