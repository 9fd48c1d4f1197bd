"""A teacher whose weights follow a student's as a moving average."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn


def cosine_between(start: float, end: float, progress: float) -> float:
    """Half a cosine from ``start`` at progress 0 to ``end`` at progress 1 and beyond.

    The momentum of a teacher goes from 0.996 to 1 this way (Grill et al. 2020, "BYOL", sec. 3.3).
    """
    turned = math.cos(math.pi * min(1.0, max(0.0, progress)))
    return end + 0.5 * (start - end) * (1.0 + turned)


class Teacher(nn.Module):
    """A copy of a student that no gradient reaches (Tarvainen and Valpola 2017, eq. 1).

    Its weights are in the state dict as ``module.*``, the student's are not: a run is resumed with
    the teacher it had. In several processes the students agree after each step, so the teachers do.

    Args:
        student: what to copy; the teacher goes on following this very module.
    """

    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.module = copy.deepcopy(student).requires_grad_(False)
        # In a tuple, so that the student is not registered as a part of its teacher.
        self._student = (student,)

    @torch.no_grad()
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the student's copy returns, without gradients."""
        return self.module(*args, **kwargs)

    @torch.no_grad()
    def update(self, momentum: float) -> None:
        """Move to momentum x teacher + (1 - momentum) x student; buffers are the student's.

        Args:
            momentum: 0 copies the student, 1 leaves the teacher as it is.
        """
        student = self._student[0]
        mine: list[Tensor] = list(self.module.parameters())
        torch._foreach_lerp_(mine, [p.detach() for p in student.parameters()], 1.0 - momentum)
        buffers: list[Tensor] = list(self.module.buffers())
        if buffers:
            torch._foreach_copy_(buffers, list(student.buffers()))
