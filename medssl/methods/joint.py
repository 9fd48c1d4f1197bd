"""What joint-embedding methods share: views of a crop, an encoder and a projector, a teacher.

A method that embeds views and compares them is its config, its loss and one step on top of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from medssl.methods.base import Crops, Method, MethodConfig, Samples, Step
from medssl.methods.view_config import ViewConfig
from medssl.networks import Embedder, Encoder, Projector, Teacher, cosine_between, pooled
from medssl.processes import world
from medssl.views import View, ViewPlan, make_views

# Two views that share much of a crop and differ in intensity: what is left alike is anatomy.
# Mirrored views are left out, as left and right are not the same in a body.
STRONG_VIEW = ViewConfig(
    rotation=15.0,
    crop_scale=(0.4, 1.0),
    gamma=(0.7, 1.4),
    contrast=(0.7, 1.3),
    brightness=0.2,
    noise=0.1,
    blur=(0.1, 1.0),
)


class JointConfig(MethodConfig):
    """Sizes of the projector, and how the two views are drawn."""

    hidden: int = Field(256, ge=1, description="width of the projector's hidden layers")
    projection: int = Field(128, ge=1, description="width of what the loss compares")
    projector_layers: int = Field(2, ge=1)
    view: ViewConfig = STRONG_VIEW
    second: ViewConfig | None = Field(None, description="of the second view; null: as the first")


class LocalViewsConfig(MethodConfig):
    """Multi-crop (Caron et al. 2020, "SwAV", sec. 3.3): small views beside the two large ones."""

    local_views: int = Field(0, ge=0, description="how many of every crop")
    local_size: list[int] | None = Field(
        None, description="voxels of a local view; null: about half the patch along each axis"
    )
    local: ViewConfig = STRONG_VIEW.model_copy(update={"crop_scale": (0.1, 0.4)})


class PredictorConfig(MethodConfig):
    """A predictor: two layers from a view's projection to the target's."""

    predictor_hidden: int = Field(256, ge=1, description="width of the predictor's hidden layer")


class JointEmbedding(Method):
    """Base of the methods that compare embeddings of views.

    Modules: ``encoder`` and ``projector``.
    """

    def __init__(self, config: Any, encoder: Encoder, samples: Samples) -> None:
        super().__init__(config, encoder, samples)
        self.encoder = encoder
        self.projector = self.make_projector(config, encoder.channels[-1])
        first, size = config.view.settings(), samples.patch_size
        if config.second is None:
            self._plans = [ViewPlan(first, size, 2)]
        else:
            self._plans = [ViewPlan(first, size), ViewPlan(config.second.settings(), size)]
        if getattr(config, "local_views", 0):
            local = config.local_size or local_size(size, encoder.strides[-1])
            if len(local) != len(size):
                raise ValueError(f"local_size has {len(size)} numbers here, not {len(local)}")
            check_local(encoder, local)
            self._plans.append(ViewPlan(config.local.settings(), tuple(local), config.local_views))

    def make_projector(self, config: Any, width: int) -> nn.Module:
        """The projector, (B, width) -> (B, projection)."""
        return Projector(width, config.hidden, config.projection, config.projector_layers)

    def mapped_views(self, crops: Crops) -> list[View]:
        """Two views of every crop, then the local ones where there are any, and their maps."""
        return make_views(crops.image, crops.draw, self._plans, crops.spacing)

    def views(self, crops: Crops) -> list[Tensor]:
        """The images of :meth:`mapped_views`."""
        return [view.image for view in self.mapped_views(crops)]

    def embed(self, views: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Views through the encoder, those of one size in one pass, and through the projector, all
        in one pass.

        Args:
            views: each (B, C, *size), those of one size beside each other.

        Returns:
            the features of the first view, (B, channels), and the projection of each, (B, D).
        """
        alike = [list(group) for _, group in groupby(views, key=lambda view: view.shape)]
        features = torch.cat([pooled(self.encoder(torch.cat(group))) for group in alike])
        projections = self.projector(features)
        return features[: len(views[0])], list(projections.chunk(len(views)))

    def preview(self, crops: Crops) -> dict[str, Tensor]:
        """The crop and its views."""
        shown = {f"view {k}": view for k, view in enumerate(self.views(crops), start=1)}
        return {"crop": crops.image, **shown}


class TwoViews(JointEmbedding):
    """Base of the methods that are a loss of two views' projections: what tells them apart is the
    loss that they make.
    """

    def __init__(self, config: Any, encoder: Encoder, samples: Samples) -> None:
        super().__init__(config, encoder, samples)
        self._loss = self.make_loss(config)

    def make_loss(self, config: Any) -> nn.Module:
        """What takes two (B, D) and gives a scalar."""
        raise TypeError(f"{type(self).__name__} defines no loss")

    def trivial_loss(self, samples: int) -> float | None:
        """The loss of a network that gives all samples the same; None where it is not known.

        Args:
            samples: in the batch of all processes.
        """
        return None

    def step(self, crops: Crops) -> Step:
        """The loss of two views; both go through the encoder as one batch."""
        embedding, (z1, z2) = self.embed(self.views(crops))
        return Step(
            self._loss(z1, z2),
            embedding=embedding,
            positives=(z1, z2),
            trivial_loss=self.trivial_loss(len(crops) * world()[1]),
        )


class TeacherConfig(MethodConfig):
    """A teacher that follows the student as a moving average."""

    momentum: float = Field(
        0.99, ge=0, le=1, description="of the teacher at the start; goes to 1 by a cosine"
    )


class StudentTeacher(JointEmbedding):
    """Base of the methods whose targets come from a teacher of encoder and projector.

    Modules: ``encoder``, ``projector`` and ``teacher``.
    """

    def __init__(self, config: Any, encoder: Encoder, samples: Samples) -> None:
        super().__init__(config, encoder, samples)
        self._momentum = float(config.momentum)
        self.teacher = Teacher(Embedder(self.encoder, self.projector))

    def taught(self, views: Sequence[Tensor]) -> list[Tensor]:
        """The teacher's projection of each view, (B, D), without gradient.

        Asked for before the student embeds, so that what the teacher needs is free again.
        """
        _, projections = self.teacher(torch.cat(list(views)))
        return list(projections.chunk(len(views)))

    def after_update(self, progress: float) -> None:
        """The teacher follows."""
        self.teacher.update(cosine_between(self._momentum, 1.0, progress))


def together(module: nn.Module, rows: Sequence[Tensor]) -> list[Tensor]:
    """What a module gives several batches of one size, in one pass, so that batch norm sees all."""
    return list(module(torch.cat(list(rows))).chunk(len(rows)))


def check_local(
    encoder: Encoder,
    size: Sequence[int],
    what: str = "local views",
    otherwise: str = "take another local_size, or local_views 0",
) -> None:
    """Raises ValueError where the encoder does not read views of this size, before a run starts."""
    training = encoder.training
    try:
        with torch.no_grad():
            encoder.eval()(torch.zeros(1, encoder.in_channels, *size))
    except ValueError as error:
        raise ValueError(
            f"this encoder reads no {what} of {list(size)} voxels ({error}); {otherwise}"
        ) from None
    finally:
        encoder.train(training)


def local_size(patch: Sequence[int], stride: int) -> list[int]:
    """About half the patch along each axis, a multiple of the encoder's stride, at least one."""
    return [max(1, round(size / 2 / stride)) * stride for size in patch]
