"""Cross entropy with a centred and sharpened teacher, row by row."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medssl.processes import mean_value, sum_processes, world


class Centred(nn.Module):
    """A teacher's distributions over K prototypes, centred and sharpened (Caron et al. 2021,
    "Emerging properties in self-supervised vision transformers", sec. 3.1, eq. 4):
    softmax((t - c) / temperature), c being the moving average of t over the rows of all processes.

    Args:
        prototypes: K.
        student_temperature: > 0.
        momentum: of the centre, 0 to 1.

    Attributes:
        centre: float32 (K,), part of the state, the same in every process.
    """

    centre: Tensor

    def __init__(
        self, prototypes: int, student_temperature: float = 0.1, momentum: float = 0.9
    ) -> None:
        super().__init__()
        if student_temperature <= 0:
            raise ValueError(f"the temperature must be above 0, not {student_temperature}")
        self.student_temperature, self.momentum = student_temperature, momentum
        self.register_buffer("centre", torch.zeros(prototypes))

    @torch.no_grad()
    def probabilities(self, teacher: Tensor, temperature: float) -> Tensor:
        """(..., K) logits of the teacher -> float32 distributions, centred and sharpened."""
        return ((teacher.float() - self.centre) / temperature).softmax(-1)

    @torch.no_grad()
    def follow(self, teacher: Tensor) -> None:
        """Move the centre towards the mean of (N, K) logits here and in the other processes."""
        rows = teacher.float()
        mean = sum_processes(rows.sum(0)) / (len(rows) * world()[1])
        self.centre.lerp_(mean, 1.0 - self.momentum)


class CentredCE(Centred):
    """-sum_k P_k log softmax(s / student_temperature)_k of every row, P being the teacher's of the
    row that it is paired with; averaged over the rows of all processes, each with its weight (the
    losses of Jiang et al. 2023, "Alice", between two patients and between their tokens).

    Args: see :class:`Centred`.
    """

    def forward(
        self, student: Tensor, probabilities: Tensor, weight: Tensor | None = None
    ) -> Tensor:
        """Scalar float32 (float64 for float64 logits); 0 where no row has a weight.

        Args:
            student: logits (N, K).
            probabilities: of :meth:`probabilities`, (N, K); they get no gradient.
            weight: (N,), 0 or more; None: 1.

        Raises:
            ValueError: the shapes do not belong together.
        """
        rows = tuple(student.shape[:1])
        fits = student.ndim == 2 and student.shape == probabilities.shape
        if not fits or (weight is not None and tuple(weight.shape) != rows):
            raise ValueError(
                "student and teacher are compared row by row, both (N, K) with weights (N,), not "
                f"{tuple(student.shape)}, {tuple(probabilities.shape)} and "
                f"{None if weight is None else tuple(weight.shape)}"
            )
        with torch.autocast(student.device.type, enabled=False):
            wide = student if student.dtype == torch.float64 else student.float()
            logs = (wide / self.student_temperature).log_softmax(-1)
            losses = -(probabilities.detach().to(logs.dtype) * logs).sum(1)
            if weight is None:
                return mean_value(losses.mean())
            share = weight.detach().to(losses.dtype)
            total = sum_processes(torch.stack(((share * losses).sum(), share.sum())))
            return total[0] / total[1].clamp(min=torch.finfo(total.dtype).tiny)
