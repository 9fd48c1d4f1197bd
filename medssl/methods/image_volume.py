"""Joint image-volume clustering: slices and the volumes they make up, assigned to one set of
prototypes.

Nguyen et al. 2023, "Joint self-supervised image-volume representation learning with intra-inter
contrastive clustering".
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medssl.bundle import EncoderSpec, InputContract, OtherSpec
from medssl.losses import InterDimension, MaskedMSE
from medssl.methods.base import Crops, Samples, Step, idle
from medssl.methods.joint import STRONG_VIEW
from medssl.methods.swav import PrototypesConfig, SwAV
from medssl.methods.view_config import ViewConfig
from medssl.networks import Encoder, Queue, SliceEncoder, pooled
from medssl.views import Draw, ViewPlan, make_views, random_mask

SLICES = "slices"
_DRAWS, _MASKS, _PICTURES = 1000, 1001, 1010  # streams of a sample's random numbers


class ImageVolumeConfig(PrototypesConfig):
    """As of SwAV; ``view`` is of volumes where crops are 3D, ``flat_view`` of their slices. The
    weights are beside that of clustering slices, which is 1."""

    flat_view: ViewConfig = STRONG_VIEW
    slices: int = Field(2, ge=1, description="of every crop, that are clustered as pictures")
    volume_weight: float = Field(1.0, ge=0, description="of clustering volumes")
    inter_weight: float = Field(1.0, ge=0, description="of slices and volumes agreeing")
    mask_weight: float = Field(1.0, ge=0, description="of predicting hidden slices")
    mask_ratio: float = Field(0.1, gt=0, lt=1, description="of the slices that are hidden")


class ImageVolume(SwAV):
    """SwAV on pictures; with 3D crops, on their slices and on the sequences of these, together.

    Modules: those of SwAV, whose ``encoder`` reads volumes slice by slice where crops are 3D; then
    ``volume_projector`` and ``volume_queue`` too, and ``hidden_slice`` and ``decoder_of_slices``,
    which predict hidden slices. The prototypes are shared.
    """

    Config = ImageVolumeConfig
    both = True

    def __init__(self, config: ImageVolumeConfig, encoder: Encoder, samples: Samples) -> None:
        super().__init__(config, encoder, samples)
        self._config, self._mixed = config, bool(samples.flat_size)
        if encoder.dims == 2:
            return
        self._slices = sliced(encoder)
        if self._mixed and samples.flat_channels != encoder.in_channels:
            raise ValueError("image_volume needs pictures and volumes of equally many channels")
        width, inner = encoder.channels[-1], config.projection
        self.volume_projector = self.make_projector(config, width)
        self.volume_queue = Queue(config.queue, 2 * inner) if config.queue else None
        self.hidden_slice = nn.Parameter(0.02 * torch.randn(width))
        self.decoder_of_slices = nn.Linear(width, width)
        across, rows, columns = self._slices.plane
        size = samples.patch_size
        count = math.ceil(config.mask_ratio * size[across])
        self._hidden = count / size[across]
        view, own = config.flat_view.settings(), (size[rows], size[columns])
        self._picture_plans = [ViewPlan(view, own, 2)]
        self._flat_plans = [ViewPlan(view, samples.flat_size or own, 2)]
        self._agree, self._of_hidden = InterDimension(config.temperature), MaskedMSE()

    @classmethod
    def encoder_for(cls, asked: EncoderSpec) -> EncoderSpec:
        """In 3D, the encoder on slices and two blocks of attention along them."""
        if asked.dims == 2 or asked.name == SLICES:
            return asked
        options = {"of": asked.name, "of_options": asked.options, "depth": 2}
        return asked.model_copy(update={"name": SLICES, "options": options})

    def other_spec(
        self, encoder: EncoderSpec, contract: InputContract, flat: InputContract | None
    ) -> OtherSpec | None:
        """The encoder of the slices alone, for pictures like them or like those trained on."""
        if encoder.dims == 2:
            return None
        of = EncoderSpec(
            name=encoder.options.get("of", "unet"),
            dims=2,
            in_channels=encoder.in_channels,
            options=encoder.options.get("of_options") or {},
        )
        if flat is None:
            axes, spacing = self._slices.plane[1:], contract.spacing
            update = {
                "dims": 2,
                "patch_size": [contract.patch_size[axis] for axis in axes],
                "spacing": None if spacing is None else [spacing[axis] for axis in axes],
            }
            flat = contract.model_copy(update=update)
        return OtherSpec(encoder=of, contract=flat)

    def bundle_state(self) -> dict[str, Tensor]:
        """The encoder's weights, and those of the 2D one in it."""
        state = super().bundle_state()
        if self.encoder.dims == 2:
            return state
        own = self._slices.of.state_dict()
        return state | {f"other.encoder.{name}": value for name, value in own.items()}

    def views(self, crops: Crops) -> list[Tensor]:
        """Two views of every crop."""
        if crops.image.ndim - 2 == self.encoder.dims:
            return super().views(crops)
        made = make_views(crops.image, crops.draw, self._flat_plans, crops.spacing)
        return [view.image for view in made]

    def embed(self, views: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Pictures through the 2D encoder and the projector; see `JointEmbedding.embed`."""
        if self.encoder.dims == 2:
            return super().embed(views)
        features = pooled(self._slices.of(torch.cat(list(views))))
        return features[: len(views[0])], list(self.projector(features).chunk(len(views)))

    def step(self, crops: Crops) -> Step:
        """Swapped prediction of pictures; of 3D crops, of their slices, of the volumes, and between
        both, and the error of predicted hidden slices."""
        if crops.image.ndim == 4:
            step = super().step(crops)
            if self.encoder.dims == 3:
                step.loss = step.loss + self._unused()
            return step
        self.prototypes.frozen = self.progress < self._freeze
        features, tokens = self._volumes(self.views(crops))
        volumes = list(self.volume_projector(features).chunk(2))
        _, slices = self.embed(self.pictures(crops))
        turn = self.number // 2 if self._mixed else self.number
        scores, codes = self._assigned(volumes, self.volume_queue, turn)
        # As many steps as rows are surely there: pictures of 2D steps are fewer.
        slice_scores, slice_codes = self._assigned(slices, self.queue, turn)
        losses = {
            "slice_loss": self._loss(slice_scores, slice_codes),
            "volume_loss": self._loss(scores, codes),
            "inter_loss": self._agree(
                torch.stack(scores),
                torch.stack(codes),
                self._by_crop(slice_scores, len(crops)),
                self._by_crop(slice_codes, len(crops)),
            ),
            "mask_loss": self._hidden_loss(crops, tokens),
        }
        config = self._config
        weights = (1.0, config.volume_weight, config.inter_weight, config.mask_weight)
        weighed = zip(weights, losses.values(), strict=True)
        return Step(
            torch.stack([weight * loss for weight, loss in weighed]).sum(),
            {name: loss.detach() for name, loss in losses.items()},
            embedding=features[: len(crops)],
            positives=(volumes[0], volumes[1]),
            teacher_probs=codes[0],
            # What is hidden is foretold exactly where all is the same.
            trivial_loss=sum(weights[:3]) * math.log(len(self.prototypes.weight)),
        )

    def pictures(self, crops: Crops) -> list[Tensor]:
        """Two views of some slices of 3D crops, each (B x slices, C, row, column), all slices of a
        crop before those of the next: as several processes together have them."""
        draw, count = crops.draw, self._config.slices
        stack = self._slices.pictures(crops.image)
        chosen = draw.fork(_DRAWS).integers(0, stack.shape[1], count)
        some = stack[torch.arange(len(crops), device=chosen.device)[:, None], chosen]
        keys = torch.stack([draw.fork(_PICTURES + n).bits() for n in range(count)], dim=1)
        spacing = crops.spacing[:, list(self._slices.plane[1:])].repeat_interleave(count, dim=0)
        made = make_views(some.flatten(0, 1), Draw(keys.flatten()), self._picture_plans, spacing)
        return [view.image for view in made]

    def preview(self, crops: Crops) -> dict[str, Tensor]:
        """The crop and its views; then, of 3D crops, the views of a slice, one voxel thick."""
        if crops.image.ndim == 4:
            return super().preview(crops)
        shown = super().preview(crops)
        for number, view in enumerate(self.pictures(crops), start=1):
            shown[f"slice view {number}"] = self._slices.volumes(view[:: self._config.slices, None])
        return shown

    def _volumes(self, views: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The features of volumes (2B, C), as the encoder pools them, and the tokens of their
        slices before attention (2B, S, C)."""
        maps = self._slices.slice_maps(torch.cat(list(views)))
        tokens = self._slices.tokens(maps[-1])
        return self._slices.attended(tokens).mean(1), tokens

    def _hidden_loss(self, crops: Crops, tokens: Tensor) -> Tensor:
        """Mean squared error of hidden slices, predicted from the others by the attention; their
        tokens, normalised, are the target and have no gradient."""
        forks = [crops.draw.fork(_MASKS + view) for view in range(2)]
        grid = (tokens.shape[1],)
        hidden = torch.cat([random_mask(fork, grid, self._hidden) for fork in forks])
        filled = tokens.where(~hidden.transpose(1, 2), self.hidden_slice.to(tokens.dtype))
        predicted = self.decoder_of_slices(self._slices.attended(filled))
        target = F.layer_norm(tokens.detach().float(), tokens.shape[2:])
        loss: Tensor = self._of_hidden(
            predicted.float().transpose(1, 2), target.transpose(1, 2), hidden
        )
        return loss

    def _by_crop(self, rows: Sequence[Tensor], crops: int) -> Tensor:
        """Rows of slices' views, (B x slices, K) each, as (views x slices, B, K)."""
        return torch.cat([one.reshape(crops, -1, one.shape[1]).transpose(0, 1) for one in rows])

    def _unused(self) -> Tensor:
        """0, with gradients for what a step on pictures leaves alone."""
        rest = idle(self._slices.blocks, self.volume_projector, self.decoder_of_slices)
        return rest + 0.0 * self.hidden_slice.sum()


def sliced(encoder: Encoder) -> SliceEncoder:
    """The encoder, if it is one of slices that attend to each other.

    Raises:
        ValueError: it is another.
    """
    if not isinstance(encoder, SliceEncoder) or not len(encoder.blocks):
        raise ValueError(
            "image_volume needs, of 3D crops, the encoder slices with attention along them: "
            "a depth of at least 1"
        )
    return encoder
