"""What is trained: a segmenter, a classifier or a regressor on augmented crops."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medssl.losses import DiceCE, marginal_logits
from medssl.methods.view_config import ViewConfig
from medssl.training.data import Batch, normalised
from medssl.training.loop import Task
from medssl.views import Draw, make_view

AUGMENT_STREAM = 2


class FinetuneTask(Task):
    """A model that learns from augmented crops.

    Args:
        model: that is trained.
        augment: of the crops.
    """

    def __init__(self, model: nn.Module, augment: ViewConfig) -> None:
        super().__init__()
        self.model, self._settings = model, augment.settings()


class SegmentationTask(FinetuneTask):
    """Dice and cross entropy on augmented crops with their label maps.

    Args:
        model: the segmenter.
        augment: of the crops.
        skip_absent: see :class:`medssl.losses.DiceCE`.
        known: bool (sets, classes): which classes a sample was annotated for, by its ``target``;
            None where all were for every class. See :func:`medssl.losses.marginal_logits`.
    """

    def __init__(
        self,
        model: nn.Module,
        augment: ViewConfig,
        skip_absent: bool = False,
        known: Tensor | None = None,
    ) -> None:
        super().__init__(model, augment)
        self.register_buffer("known", known, persistent=False)
        self._loss = DiceCE(skip_absent=skip_absent)

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """One step."""
        draw = Draw(batch["key"], AUGMENT_STREAM)
        image, label = normalised(batch), batch["label"].long()
        size = image.shape[2:]
        view = make_view(image, draw, self._settings, size, batch["spacing"], label)
        logits, known = self.model(view.image), self.known
        if isinstance(known, Tensor):
            logits = marginal_logits(logits, known[batch["target"]])
        loss: Tensor = self._loss(logits, view.label)
        return loss, {}


class ClassificationTask(FinetuneTask):
    """Cross entropy on augmented images; ``weights`` balances the classes."""

    def __init__(self, model: nn.Module, augment: ViewConfig, weights: Tensor) -> None:
        super().__init__(model, augment)
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


class RegressionTask(FinetuneTask):
    """Huber's loss between a number and what augmented images predict of it.

    Smooth L1 of Girshick 2015, "Fast R-CNN", eq. 3: squared error below one deviation of the
    target, absolute above, so that one odd value does not lead the rest.

    Args:
        model: returns (B, 1).
        augment: of the images; must not change the number, as zooming does a size.
        numbers: float (volumes,), standardised, in the order of the volumes that are trained on.
    """

    def __init__(self, model: nn.Module, augment: ViewConfig, numbers: Tensor) -> None:
        super().__init__(model, augment)
        self.register_buffer("numbers", numbers.float(), persistent=False)

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """One step; logs the mean absolute error, in deviations of the target."""
        draw = Draw(batch["key"], AUGMENT_STREAM)
        image = normalised(batch)
        view = make_view(image, draw, self._settings, image.shape[2:], batch["spacing"])
        predicted = self.model(view.image).float()[:, 0]
        numbers = self.numbers
        assert isinstance(numbers, Tensor)
        wanted = numbers[batch["volume"]]
        loss = F.smooth_l1_loss(predicted, wanted)
        return loss, {"absolute_error": (predicted.detach() - wanted).abs().mean()}


def balanced_weights(counts: list[int]) -> Tensor:
    """Inverse class frequency, of mean 1: float32 (classes,)."""
    inverse = 1.0 / torch.tensor(counts, dtype=torch.float32).clamp(min=1)
    return inverse * len(counts) / inverse.sum()
