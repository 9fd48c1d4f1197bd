"""What is trained: a segmenter or a classifier on augmented crops."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medssl.losses.dice import DiceCE
from medssl.methods.base import ViewConfig
from medssl.training.data import Batch, normalised
from medssl.training.loop import Task
from medssl.views import Draw, make_view

AUGMENT_STREAM = 2


class SegmentationTask(Task):
    """Dice and cross entropy on augmented crops with their label maps."""

    def __init__(self, model: nn.Module, augment: ViewConfig, skip_absent: bool = False) -> None:
        super().__init__()
        self.model, self._settings = model, augment.settings()
        self._loss = DiceCE(skip_absent=skip_absent)

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """One step."""
        draw = Draw(batch["key"], AUGMENT_STREAM)
        image, label = normalised(batch), batch["label"]
        size = image.shape[2:]
        view = make_view(image, draw, self._settings, size, batch["spacing"], label)
        loss: Tensor = self._loss(self.model(view.image), view.label)
        return loss, {}


class ClassificationTask(Task):
    """Cross entropy on augmented images; ``weights`` balances the classes."""

    def __init__(self, model: nn.Module, augment: ViewConfig, weights: Tensor) -> None:
        super().__init__()
        self.model, self._settings = model, augment.settings()
        self.register_buffer("weights", weights)

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """One step."""
        draw = Draw(batch["key"], AUGMENT_STREAM)
        image = normalised(batch)
        view = make_view(image, draw, self._settings, image.shape[2:], batch["spacing"])
        logits = self.model(view.image).float()
        weights = self.weights
        assert isinstance(weights, Tensor)
        loss = F.cross_entropy(logits, batch["target"], weight=weights)
        accuracy = (logits.detach().argmax(1) == batch["target"]).float().mean()
        return loss, {"accuracy": accuracy}


def balanced_weights(counts: list[int]) -> Tensor:
    """Inverse class frequency, of mean 1: float32 (classes,)."""
    inverse = 1.0 / torch.tensor(counts, dtype=torch.float32).clamp(min=1)
    return inverse * len(counts) / inverse.sum()
