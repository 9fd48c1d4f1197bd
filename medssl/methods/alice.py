"""Alice: masked views of one place in two patients, reconstructed and made alike.

Jiang et al. 2023, "Anatomical invariance modeling and semantic alignment for self-supervised
learning in 3D medical image segmentation".
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from medssl.bundle import Bundle
from medssl.losses import CentredCE, MaskedMSE, denormalise_patches
from medssl.methods.base import Crops, Method, Samples, Step
from medssl.methods.centred import CentredConfig
from medssl.methods.joint import TeacherConfig, local_size
from medssl.methods.masked import CellsConfig, Reconstruction, cells_of, pictures, target_of
from medssl.methods.pairs import Alignment, Pairing, Pairs
from medssl.methods.place_matcher import PlaceMatcher
from medssl.networks import (
    ConvReconstructor,
    CrossAttention,
    Encoder,
    MaskedStudent,
    Projector,
    Prototypes,
    Teacher,
    TokenReconstructor,
    cosine_between,
    reconstructor_for,
)
from medssl.views import Draw, make_view, masked_count, random_mask, upsample_mask

_VIEWS, _MASKS = (1002, 1003), (1004, 1005)  # streams of a sample's numbers, of its two views


class AliceConfig(CellsConfig, TeacherConfig, CentredConfig):
    """How places of two patients are paired; what the parts of the loss weigh; the heads; masks and
    views as of ``mae``. A part that weighs 0 is not computed.
    """

    alignment: Alignment = Field(
        "position",
        description="where the other patient's view is cut: at the same relative position in the "
        "volume, where an embedding finds the place, anywhere, or away from the place (both "
        "controls)",
    )
    view_size: list[int] | None = Field(
        None, description="voxels of a view; null: about half the patch along each axis"
    )
    embedding: str | None = Field(
        None,
        description="the bundle of an embedding of places, as `anatomical_embedding` leaves it",
    )
    score: float = Field(
        0.7, ge=-1, le=1, description="similarity above which the embedding's match is one"
    )
    candidates: int = Field(16, ge=1, description="places tried in every crop, at once")
    tolerance: float = Field(
        0.1, gt=0, description="how far a match by position may be off, as a share of the volume"
    )
    cls_weight: float = Field(1.0, ge=0, description="of the loss between the two patients")
    patch_weight: float = Field(1.0, ge=0, description="of the loss between local tokens")
    rec_weight: float = Field(10.0, ge=0, description="of half the squared error where masked")
    casa: bool = Field(
        True, description="align local tokens by cross-attention; else compare them place by place"
    )
    casa_width: int = Field(64, ge=4, description="of its tokens")
    casa_heads: int = Field(4, ge=1)
    hidden: int = Field(256, ge=1, description="width of the projectors' hidden layers")
    projection: int = Field(64, ge=1, description="width of the bottleneck, which is normalised")
    projector_layers: int = Field(3, ge=1)
    prototypes: int = Field(512, ge=2, description="K")
    teacher_temperature: float = Field(0.03, gt=0, description="after its warm-up")
    teacher_temperature_start: float = Field(0.02, gt=0, description="at the start")
    decoder_dim: int = Field(96, ge=12, description="of a ViT's decoder, as of mae")
    decoder_depth: int = Field(2, ge=1)

    FROZEN: ClassVar[str] = "embedding"

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.alignment == "embedding" and self.embedding is None:
            raise ValueError("alignment by embedding needs the bundle of one, embedding=BUNDLE")
        if self.embedding is not None and self.alignment not in ("embedding", "displaced"):
            raise ValueError(f"alignment {self.alignment} uses no embedding: leave it out")
        if not (self.cls_weight or self.patch_weight or self.rec_weight):
            raise ValueError("one of the three weights must be above 0")
        return self


class Alice(Method):
    """Alice with any encoder that can leave masked positions out.

    Modules: ``student``, which holds the encoder, and ``teacher`` where it is needed.
    """

    Config = AliceConfig

    def __init__(self, config: AliceConfig, encoder: Encoder, samples: Samples) -> None:
        super().__init__(config, encoder, samples)
        self._config, self._settings = config, config.view.settings()
        crop = samples.patch_size
        self._size = tuple(config.view_size or local_size(crop, encoder.strides[-1]))
        self._grid = cells_of(self._size, config.mask_cell, encoder)
        self._visible = math.prod(self._grid) - masked_count(self._grid, config.mask_ratio)
        self.target = target_of(config.target, encoder)
        reconstructor = reconstructor_for(
            encoder,
            self.target.channels(encoder.in_channels, encoder.dims),
            self.target.cell,
            config.decoder_dim,
            config.decoder_depth,
        )
        self.student = student(config, encoder.channels[-1], reconstructor)
        self.teacher = Teacher(self.student) if config.cls_weight or config.patch_weight else None
        self._rec_loss = MaskedMSE(config.normalise_patches)
        kind = (config.prototypes, config.student_temperature, config.centre_momentum)
        self._cls_loss = CentredCE(*kind) if config.cls_weight else None
        self._patch_loss = CentredCE(*kind) if config.patch_weight else None
        # Last, so that an embedding changes nothing of the weights that the others begin with.
        self._pairing = Pairing(
            config.alignment,
            crop,
            self._size,
            candidates=config.candidates,
            tolerance=config.tolerance,
            score=config.score,
            matcher=matcher(config.embedding, encoder) if config.embedding else None,
        )

    @property
    def encoder(self) -> Encoder:
        """The encoder, as the student holds it."""
        return self.student.reconstructor.encoder

    def step(self, crops: Crops) -> Step:
        """The weighted sum of the three losses."""
        pairs = self._pairing(crops)
        images = torch.cat(self.views(crops, pairs))
        mask = self._masks(crops)
        self.student.freeze(self.progress < self._config.freeze)
        seen = self.student(images, mask, self._visible)
        logs = {"pairs": pairs.weight.mean(), "apart": pairs.apart.mean()}
        if self._config.embedding is not None:
            logs["score"] = pairs.score.mean()
        assert seen.image is not None
        rec = self._rec_loss(seen.image, self.target(images), mask) / 2
        loss, logs["rec_loss"] = self._config.rec_weight * rec, rec.detach()
        if self.teacher is None:
            return Step(loss, logs, embedding=seen.features[: len(crops)])
        taught = self.teacher(images, queries=seen.queries.detach())
        found: dict[str, Any] = {}
        if self._cls_loss is not None:
            # Each patient's view is taught by the other patient's.
            probs, logits = self._taught(self._cls_loss, taught.overall), seen.overall
            cls = self._cls_loss(logits, probs.roll(len(crops), 0), pairs.weight.repeat(2))
            loss, logs["cls_loss"] = loss + self._config.cls_weight * cls, cls.detach()
            own = slice(None, len(crops)), slice(len(crops), None)
            found["positives"] = logits[own[0]], taught.overall[own[1]]
            found["teacher_probs"] = probs[own[0]]
        if self._patch_loss is not None:
            probs = self._taught(self._patch_loss, taught.local)
            patch = self._patch_loss(seen.local, probs)
            loss, logs["patch_loss"] = loss + self._config.patch_weight * patch, patch.detach()
        return Step(loss, logs, embedding=seen.features[: len(crops)], **found)

    def after_update(self, progress: float) -> None:
        """The teacher follows."""
        if self.teacher is not None:
            self.teacher.update(cosine_between(self._config.momentum, 1.0, progress))

    def views(self, crops: Crops, pairs: Pairs | None = None) -> list[Tensor]:
        """A view of every crop, and one of the other patient's at the place that it is paired
        with, before masking; ``pairs`` where they are known already."""
        pairs = self._pairing(crops) if pairs is None else pairs
        other = crops.take(pairs.partner)
        sides = ((crops, pairs.first), (other, pairs.second))
        return [
            make_view(
                side.image,
                Draw(crops.draw.fork(stream).bits()),
                self._settings,
                self._size,
                side.spacing,
                centre=centre,
            ).image
            for stream, (side, centre) in zip(_VIEWS, sides, strict=True)
        ]

    def preview(self, crops: Crops) -> dict[str, Tensor]:
        """Both views of every pair beside each other, masked, and with what is predicted."""
        images, mask = torch.cat(self.views(crops)), self._masks(crops)
        predicted = self.student(images, mask, self._visible).image
        if self._config.normalise_patches:
            predicted = denormalise_patches(predicted, self.target(images), self._grid)
        hidden = upsample_mask(mask, self._size)
        given = images.masked_fill(hidden, float(images.min()))
        found = pictures(Reconstruction(images, given, hidden, predicted), self.target)
        # Of a pair, both on the grey scale of the first.
        axes = tuple(range(1, images.ndim))
        spread, mean = torch.std_mean(images, axes, keepdim=True)
        factor = spread.chunk(2)[0] / spread.chunk(2)[1].clamp(min=1e-6)
        shown = {}
        for name, rows in found.items():
            own, other = rows.chunk(2)
            shown[f"a patient, {name}"] = own
            shown[f"another, {name}"] = (other - mean.chunk(2)[1]) * factor + mean.chunk(2)[0]
        return shown

    def bundle_state(self) -> dict[str, Tensor]:
        """The encoder's weights and, of the U-Net, the decoder's."""
        state = self.student.reconstructor.state_dict()
        return {k: v for k, v in state.items() if k.startswith(("encoder.", "decoder."))}

    def _masks(self, crops: Crops) -> Tensor:
        """What is hidden of both views, the first ones first: bool (2B, 1, *grid)."""
        draws = (crops.draw.fork(stream) for stream in _MASKS)
        return torch.cat([random_mask(d, self._grid, self._config.mask_ratio) for d in draws])

    def _taught(self, loss: CentredCE, logits: Tensor) -> Tensor:
        """The teacher's distributions (N, K); the centre follows them."""
        found = loss.probabilities(logits, self._config.temperature(self.progress))
        loss.follow(logits)
        return found


def student(
    config: AliceConfig, channels: int, reconstructor: ConvReconstructor | TokenReconstructor
) -> MaskedStudent:
    """What is trained: heads only for the losses that count.

    Args:
        config: their sizes.
        channels: of the encoder's pooled features.
        reconstructor: holds the encoder.
    """
    overall = head(config, channels) if config.cls_weight else None
    if not config.patch_weight:
        return MaskedStudent(reconstructor, overall, None, None)
    queries, features = reconstructor.widths
    if not config.casa:
        return MaskedStudent(reconstructor, overall, head(config, features), None)
    casa = CrossAttention(queries, features, config.casa_width, config.casa_heads)
    return MaskedStudent(reconstructor, overall, head(config, config.casa_width), casa)


def matcher(path: str, encoder: Encoder) -> PlaceMatcher:
    """The embedding of a bundle.

    Raises:
        MedsslError: what loading it raises.
        ValueError: it reads other images than the encoder.
    """
    embedding = Bundle.load(path).embedding()
    own, its = ((e.dims, e.in_channels) for e in (encoder, embedding.encoder))
    if own != its:
        raise ValueError(
            f"the embedding reads {its[0]}D images of {its[1]} channel(s), the encoder {own[0]}D "
            f"ones of {own[1]}"
        )
    return PlaceMatcher(embedding)


def head(config: AliceConfig, width: int) -> nn.Module:
    """A projector and its prototypes: (N, width) -> logits (N, K)."""
    return nn.Sequential(
        Projector(width, config.hidden, config.projection, config.projector_layers),
        Prototypes(config.projection, config.prototypes),
    )
