"""Uni4Eye: one masked transformer for 2D and 3D, which predicts voxels and how steep they are.

Cai et al. 2022, "Uni4Eye: unified 2D and 3D self-supervised pre-training via masked image modeling
transformer for ophthalmic image classification".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor, nn

from medssl.bundle import EncoderSpec, InputContract, OtherSpec
from medssl.losses import GradientMagnitude, MaskedMSE, Target, denormalise_patches
from medssl.methods.base import Crops, Method, Samples, Step, idle
from medssl.methods.masked import OneViewConfig, cells_of, in_range_of
from medssl.methods.view_config import ViewConfig
from medssl.networks import Encoder, TokenDecoder, ViT, visible_first
from medssl.networks.patches import join_patches, split_patches, take_patches
from medssl.processes import sum_processes, world
from medssl.views import ViewSettings, make_view, masked_count, random_mask, upsample_mask


class Uni4EyeConfig(OneViewConfig):
    """``mask_ratio`` of the patches are hidden; what is predicted of them, and by which decoders.
    Where crops of 3D and 2D come in turn, the 2D ones may have a view and patches of their own.
    """

    mask_ratio: float = Field(0.75, gt=0, lt=1)
    gradient_weight: float = Field(
        1.0, ge=0, description="of predicting the gradient's length; 0: no such decoder"
    )
    normalise_patches: bool = True
    decoder_dim: int = Field(96, ge=12)
    decoder_depth: int = Field(1, ge=1)
    flat_view: ViewConfig | None = Field(None, description="of 2D crops; null: as of 3D ones")
    flat_patch: int | None = Field(
        None, ge=1, description="pixels along an edge of a 2D patch; null: as of a 3D one"
    )


@dataclass(frozen=True)
class Side:
    """How images of one number of dimensions are seen: by ``encoder``, in views of ``size`` voxels
    drawn by ``view``, cut into ``grid`` patches of which ``visible`` are shown."""

    encoder: ViT
    view: ViewSettings
    size: tuple[int, ...]
    grid: tuple[int, ...]
    visible: int


class Uni4Eye(Method):
    """Masked autoencoding with a ViT whose blocks read patches of 2D and of 3D.

    Modules: ``encoder``; ``other``, its blocks behind a 2D embedding, where crops of both come in
    turn; ``decoders``, one for the voxels and one for the length of their gradient; ``heads``, the
    last layer of each for each number of dimensions.

    Attributes:
        latest: where crops of both come in turn, the last loss of 3D and that of 2D, float32 (2,).
    """

    Config = Uni4EyeConfig
    both = True
    latest: Tensor

    def __init__(self, config: Uni4EyeConfig, encoder: Encoder, samples: Samples) -> None:
        super().__init__(config, encoder, samples)
        if not isinstance(encoder, ViT):
            raise ValueError("uni4eye needs an encoder of patches, a ViT")
        self.encoder, self._config = encoder, config
        self._sides = {encoder.dims: self._side(encoder, samples.patch_size)}
        self.other: ViT | None = None
        if samples.flat_size:
            patch = config.flat_patch or encoder.patch_size
            self.other = encoder.sibling(2, samples.flat_channels, patch)
            self._sides[2] = self._side(self.other, samples.flat_size)
            self.register_buffer("latest", torch.zeros(2))
        self._targets: dict[str, tuple[Target, float]] = {"pixels": (Target(), 1.0)}
        if config.gradient_weight:
            self._targets["gradient"] = (GradientMagnitude(), config.gradient_weight)
        width, inner = encoder.channels[0], config.decoder_dim
        self.decoders = nn.ModuleDict(
            {name: TokenDecoder(width, inner, config.decoder_depth) for name in self._targets}
        )
        self.heads = nn.ModuleDict(
            {
                f"{dims}d": nn.ModuleDict(
                    {
                        name: nn.Linear(inner, side.encoder.embed.in_features)
                        for name in self._targets
                    }
                )
                for dims, side in self._sides.items()
            }
        )
        self._loss = MaskedMSE(config.normalise_patches)

    def _side(self, encoder: ViT, size: tuple[int, ...]) -> Side:
        config = self._config
        own = config.flat_view if encoder is not self.encoder else None
        grid = cells_of(size, 0, encoder)
        visible = math.prod(grid) - masked_count(grid, config.mask_ratio)
        return Side(encoder, (own or config.view).settings(), size, grid, visible)

    def step(self, crops: Crops) -> Step:
        """Mean squared error of the hidden patches: of their voxels, plus the weighted one of the
        length of the gradient."""
        dims = crops.image.ndim - 2
        side, (image,) = self._sides[dims], self.views(crops)
        order, tokens = self._encoded(side, image, self._mask(side, crops))
        loss = idle(*self._unused(dims))
        logs = {}
        for name, (target, weight) in self._targets.items():
            predicted = self._predicted(name, dims, tokens, order, side.visible)
            asked = take_patches(split_patches(target(image), side.grid), order[:, side.visible :])
            logs[f"{name}_loss"] = self._loss.of_patches(predicted, asked)
            loss = loss + weight * logs[f"{name}_loss"]
        logs = {name: value.detach() for name, value in logs.items()}
        return Step(loss, logs | self._of_each(dims, loss), tokens.detach().mean(dim=1))

    def views(self, crops: Crops) -> list[Tensor]:
        """One view of every crop, before masking."""
        side = self._sides[crops.image.ndim - 2]
        made = make_view(crops.image, crops.draw, side.view, side.size, crops.spacing)
        return [made.image]

    def preview(self, crops: Crops) -> dict[str, Tensor]:
        """The original, what is left of it, and what each decoder makes of the rest; the gradient's
        length is stretched to each original's range."""
        dims = crops.image.ndim - 2
        side, (image,) = self._sides[dims], self.views(crops)
        mask = self._mask(side, crops)
        hidden = upsample_mask(mask, image.shape[2:])
        shown = {"original": image, "masked": image.masked_fill(hidden, float(image.min()))}
        order, tokens = self._encoded(side, image, mask)
        for name, (target, _) in self._targets.items():
            patches, truth = self._predicted(name, dims, tokens, order), target(image)
            places = order[..., None].expand_as(patches)
            patches = torch.empty_like(patches).scatter(1, places, patches)
            made = join_patches(patches, side.grid, side.size).to(truth.dtype)
            if self._config.normalise_patches:
                made = denormalise_patches(made, truth, side.grid)
            made = truth.where(~hidden, made)
            if name == "gradient":
                shown[name], made = in_range_of(image, truth, made)
            shown[f"{name} predicted"] = made
        return shown

    def bundle_state(self) -> dict[str, Tensor]:
        """The encoder's weights, and those of the 2D one where there is one."""
        own = self.encoder.state_dict()
        state = {f"encoder.{name}": value for name, value in own.items()}
        if self.other is not None:
            own = own | self.other.state_dict()
            state |= {f"other.encoder.{name}": value for name, value in own.items()}
        return state

    def other_spec(
        self, encoder: EncoderSpec, contract: InputContract, flat: InputContract | None
    ) -> OtherSpec | None:
        """The same blocks behind the 2D embedding."""
        if self.other is None or flat is None:
            return None
        options = {**encoder.options, "patch_size": self.other.patch_size}
        spec = EncoderSpec(
            name=encoder.name, dims=2, in_channels=self.other.in_channels, options=options
        )
        return OtherSpec(encoder=spec, contract=flat)

    def _mask(self, side: Side, crops: Crops) -> Tensor:
        return random_mask(crops.draw.fork(1000), side.grid, self._config.mask_ratio)

    def _encoded(self, side: Side, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The numbers of the patches, visible ones first, and the tokens of those."""
        order = visible_first(mask)
        keep = order[:, : side.visible]
        patches, positions = side.encoder.patches(image)
        seen = take_patches(patches, keep)
        return order, side.encoder.encode_patches(seen, positions[keep])

    def _predicted(
        self, name: str, dims: int, tokens: Tensor, order: Tensor, first: int = 0
    ) -> Tensor:
        """What a decoder predicts of the patches in ``order`` from number ``first`` on."""
        decoder = self.decoders[name]
        assert isinstance(decoder, TokenDecoder)
        decoded = decoder.decode(tokens, self._sides[dims].grid, order)[:, first:]
        predicted: Tensor = self._heads(dims)[name](decoder.norm(decoded))
        return predicted

    def _heads(self, dims: int) -> nn.ModuleDict:
        heads = self.heads[f"{dims}d"]
        assert isinstance(heads, nn.ModuleDict)
        return heads

    def _unused(self, dims: int) -> list[nn.Module]:
        """What a step on these dimensions leaves alone."""
        rest = [(d, side) for d, side in self._sides.items() if d != dims]
        return [module for d, side in rest for module in (side.encoder.embed, self._heads(d))]

    @torch.no_grad()
    def _of_each(self, dims: int, loss: Tensor) -> dict[str, Tensor]:
        """The last loss of either number of dimensions, whichever this step has."""
        if len(self._sides) == 1:
            return {}
        self.latest[3 - dims] = sum_processes(loss.detach()) / world()[1]
        shown = {3: self.latest[0].clone()} | ({2: self.latest[1].clone()} if self.number else {})
        return {f"loss_{d}d": value for d, value in shown.items()}
