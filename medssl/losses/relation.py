"""The loss of ReSSL: a student's relations to other images follow a teacher's."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medssl.processes import mean_value


class Relation(nn.Module):
    """Relational consistency (Zheng et al. 2021, "ReSSL: relational self-supervised learning with
    weak augmentation", sec. 3).

    The relation of an embedding to K others is the softmax of its cosine similarities to them over
    a temperature. The loss is the cross entropy of the student's relations against the teacher's,
    averaged over samples; no gradient reaches teacher and others.
    In several processes, which hold the same others, value and (under DDP) gradient equal those of
    one process holding the whole batch.

    Args:
        temperature: of the student, > 0.
        teacher_temperature: > 0; the paper needs it lower, so that targets are sharper.
    """

    def __init__(self, temperature: float = 0.1, teacher_temperature: float = 0.04) -> None:
        super().__init__()
        if min(temperature, teacher_temperature) <= 0:
            raise ValueError(
                f"temperatures must be above 0, not {temperature} and {teacher_temperature}"
            )
        self.temperature, self.teacher_temperature = temperature, teacher_temperature

    def forward(self, student: Tensor, target: Tensor, others: Tensor) -> Tensor:
        """Scalar float32 (float64 for float64 input).

        Args:
            student: projections (B, D).
            target: the teacher's :meth:`relations` (B, K) for the same samples.
            others: (K, D).

        Raises:
            ValueError: the shapes do not fit.
        """
        if student.ndim != 2 or target.shape != (len(student), len(others)):
            raise ValueError(
                f"ReSSL compares (B, D) with targets (B, K), not {tuple(student.shape)} with "
                f"{tuple(target.shape)}, of {len(others)} others"
            )
        with torch.autocast(student.device.type, enabled=False):
            logits = _cosines(student, others) / self.temperature
            return mean_value(F.cross_entropy(logits, target.detach().to(logits.dtype)))

    @torch.no_grad()
    def relations(self, teacher: Tensor, others: Tensor) -> Tensor:
        """The target: the teacher's (B, D) to (K, D), float (B, K), rows add up to 1."""
        with torch.autocast(teacher.device.type, enabled=False):
            return (_cosines(teacher, others) / self.teacher_temperature).softmax(dim=1)


def _cosines(rows: Tensor, others: Tensor) -> Tensor:
    if others.ndim != 2 or others.shape[1:] != rows.shape[1:]:
        raise ValueError(
            f"rows of shape {tuple(rows.shape)} are not related to others of {tuple(others.shape)}"
        )
    wide = torch.promote_types(rows.dtype, torch.float32)
    return F.normalize(rows.to(wide)) @ F.normalize(others.detach().to(wide)).T
