"""The loss of DINO: agree with a centred and sharpened teacher on other views."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medssl.losses.centred import Centred
from medssl.processes import mean_value


class DINO(Centred):
    """DINO (Caron et al. 2021, "Emerging properties in self-supervised vision transformers",
    sec. 3.1, eq. 3 and 4, algorithm 1).

    The teacher's distribution of a view over K prototypes is P = softmax((t - c) / temperature),
    c being the moving average of t over the samples of all processes. The loss is the cross entropy
    -sum_k P_k log softmax(s / student_temperature)_k, averaged over samples and over pairs of a
    teacher's view and another one of the student's. Centring keeps one prototype from taking all;
    the low temperature keeps the distribution from becoming uniform.

    Args:
        prototypes: K.
        student_temperature: > 0.
        momentum: of the centre, 0 to 1.

    Attributes:
        centre: float32 (K,), part of the state, the same in every process.
    """

    def forward(self, student: Sequence[Tensor], probabilities: Sequence[Tensor]) -> Tensor:
        """Scalar float32 (float64 for float64 logits).

        Args:
            student: logits of every view, each (B, K), those that the teacher saw first.
            probabilities: of :meth:`probabilities`, of the teacher's views, each (B, K).

        Raises:
            ValueError: the shapes are not the same, or the student saw no other view.
        """
        shapes = {tuple(rows.shape) for rows in (*student, *probabilities)}
        if len(shapes) != 1 or len(next(iter(shapes))) != 2:
            raise ValueError(f"DINO compares views of one shape (B, K), not {sorted(shapes)}")
        if not 0 < len(probabilities) <= len(student) or len(student) < 2:
            raise ValueError("DINO needs the student's views of all the teacher's, and two of them")
        with torch.autocast(student[0].device.type, enabled=False):
            logits = torch.stack(list(student))
            wide = logits if logits.dtype == torch.float64 else logits.float()
            logs = (wide / self.student_temperature).log_softmax(-1)
            taught = torch.stack(list(probabilities)).detach().to(logs.dtype)
            # (teacher's view, student's view); the same view of both is no pair.
            pairs = -torch.einsum("tbk,sbk->ts", taught, logs) / logs.shape[1]
            count = pairs.numel() - len(pairs)
            return mean_value((pairs.sum() - pairs.diagonal().sum()) / count)
