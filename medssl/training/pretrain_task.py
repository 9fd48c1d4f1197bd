"""What pretraining trains: a method on normalised crops, and the numbers it is watched by."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from medssl.losses.measures import (
    alignment,
    divergence_from_uniform,
    effective_rank,
    entropy,
    spread,
    uniformity,
)
from medssl.methods import Crops, Method, Step
from medssl.processes import gather_rows
from medssl.training.data import Batch, normalised
from medssl.training.sharding import local, norms
from medssl.training.task import Task
from medssl.views import Draw

# A view is drawn from its own stream, so the crop's and the method's numbers are unrelated.
METHOD_STREAM = 1


def crops_of(batch: Batch) -> Crops:
    """The batch as a method sees it, on the batch's device."""
    draw = Draw(batch["key"], METHOD_STREAM)
    rest = (batch[name] for name in ("spacing", "volume", "subject", "place", "extent"))
    return Crops(normalised(batch), draw, *rest)


def weight_norm(module: nn.Module) -> Tensor:
    """The length of the trained weights of all linear layers and convolutions, as one vector.

    Returns:
        float32 (); 1 where there are none.
    """
    weights = [p for p in module.parameters() if p.requires_grad and p.ndim > 1]
    # While a sharded task computes, some of its weights are gathered and some are in parts.
    groups = [[p.detach() for p in weights if hasattr(p, "to_local") == parts] for parts in (0, 1)]
    found = [norms([local(p) for p in group], group[0]).float() for group in groups if group]
    return torch.cat(found).norm() if found else torch.ones(())


class PretrainTask(Task):
    """Feeds normalised crops to a method, and measures its embeddings.

    The last embeddings stay on the device, because the rank of a small batch says little. They are
    part of the state, so that a resumed run goes on with the numbers it would have had. Numbers are
    of the samples of all processes, so that they do not depend on how many there are.

    Args:
        method: what is trained.
        queue: embeddings kept.

    Attributes:
        measure: whether the next step measures; the loop's watcher sets it, so that only the steps
            whose numbers are read pay for them.
        recent: (queue, D), the last embeddings, oldest first; zeros before there are so many.
        prototypes: K of the teacher's probabilities, 0 where there is no teacher.
    """

    recent: Tensor

    def __init__(self, method: Method, queue: int = 256) -> None:
        super().__init__()
        self.method, self._queue = method, queue
        self.measure, self.prototypes = True, 0
        self.register_buffer("recent", torch.zeros(0, 0))

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """One step of the method: its loss, and what to log."""
        step = self.method.step(crops_of(batch))
        embedding = None
        if step.embedding is not None:
            embedding = gather_rows(step.embedding.detach().float())
            self._remember(embedding)
        logs = dict(step.logs)
        if self.measure:
            logs |= self._measured(step, embedding)
        return step.loss, logs

    def begin_step(self, number: int, progress: float) -> None:
        """See :class:`medssl.training.task.Task`."""
        self.method.number, self.method.progress = number, progress

    def after_update(self, progress: float) -> None:
        """See :class:`medssl.training.task.Task`."""
        self.method.after_update(progress)

    def _remember(self, embedding: Tensor) -> None:
        new = embedding[-self._queue :]
        if not self.recent.numel():
            self.recent = new.new_zeros(self._queue, new.shape[1])
        self.recent = torch.cat((self.recent[len(new) :], new))

    @torch.no_grad()
    def _measured(self, step: Step, embedding: Tensor | None) -> dict[str, Tensor]:
        """The numbers of one step; those that compare samples need two of them."""
        found = {"weight_norm": weight_norm(self)}
        if embedding is not None:
            found["effective_rank"] = effective_rank(self.recent)
            if len(embedding) > 1:
                found["embedding_std"] = spread(embedding)
        if step.positives is not None:
            one, other = (gather_rows(rows.detach()) for rows in step.positives)
            found["alignment"] = alignment(one, other)
            if len(one) > 1:
                found["uniformity"] = uniformity(one)
        if step.teacher_probs is not None:
            probs = gather_rows(step.teacher_probs.detach())
            self.prototypes = probs.shape[1]
            found["teacher_entropy"] = entropy(probs)
            found["teacher_kl_uniform"] = divergence_from_uniform(probs)
        if step.trivial_loss is not None:
            trivial = torch.as_tensor(step.trivial_loss, dtype=torch.float32)
            found["trivial_loss"] = trivial.to(step.loss.device, non_blocking=True)
        return found

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        # How many dimensions the embeddings have is known after the first step only.
        saved = state_dict.get(f"{prefix}recent")
        if saved is not None:
            self.recent = torch.zeros(saved.shape, device=self.recent.device)
        super()._load_from_state_dict(state_dict, prefix, *rest)
