"""MP3: put every patch in its place, from what it shows alone (Zhai et al. 2022, "Position
prediction as an effective pretraining strategy")."""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor, nn

from medssl.methods.base import Crops, Samples, Step
from medssl.methods.masked import cells_of
from medssl.methods.pretext import ANSWER, Pretext, PretextConfig, answered
from medssl.networks import Encoder, ViT
from medssl.networks.patches import join_patches, split_patches, take_patches
from medssl.views import masked_count


class MP3Config(PretextConfig):
    """``mask_ratio`` of the patches are attended to by none; which part of a crop is looked at, and
    how its intensity is changed.
    """

    mask_ratio: float = Field(0.75, ge=0, lt=1)


class MP3(Pretext):
    """MP3 with a ViT, which gets no position embeddings here.

    Without them a transformer does not know the order of its patches. So they come in a random
    order, those that are attended to first: the order is the mask.

    Modules: ``encoder`` and ``head``, a linear layer on every token.
    """

    Config = MP3Config
    encoder: ViT

    def __init__(self, config: MP3Config, encoder: Encoder, samples: Samples) -> None:
        if not isinstance(encoder, ViT):
            raise ValueError(
                "mp3 predicts the positions of tokens that know nothing of them: it needs a "
                "vision transformer, encoder vit"
            )
        super().__init__(config, encoder, samples)
        self._size = samples.patch_size
        self._grid = cells_of(samples.patch_size, 0, encoder)
        self._context = math.prod(self._grid) - masked_count(self._grid, config.mask_ratio)
        if self._context < 1:
            raise ValueError(
                f"of {math.prod(self._grid)} patches a mask_ratio of {config.mask_ratio} leaves "
                "none to attend to"
            )
        self.head = nn.Linear(encoder.channels[-1], math.prod(self._grid))

    def step(self, crops: Crops) -> Step:
        """Cross entropy of the place of every patch among all cells of the grid."""
        order = self._drawn(crops)
        (view,) = self.views(crops)
        tokens, logits = self._guess(view, order)
        return answered(logits, order, tokens.mean(1))

    def views(self, crops: Crops) -> list[Tensor]:
        """One view of every crop."""
        return [self.change(self.look(crops, self.part(crops), self._size), crops.draw)]

    def preview(self, crops: Crops) -> dict[str, Tensor]:
        """The view, what of it is attended to, and its patches where the network puts them; where
        it puts several their mean, where none darkness."""
        (view,) = self.views(crops)
        order = self._drawn(crops)
        guess = self._guess(view, order)[1].argmax(2)
        patches = take_patches(split_patches(view, self._grid), order)
        dark = view.amin()
        seen = dark.expand_as(patches).scatter(
            1, spread(order, patches)[:, : self._context], patches
        )
        found = torch.zeros_like(patches).scatter_add(1, spread(guess, patches), patches)
        times = torch.zeros_like(patches).scatter_add(
            1, spread(guess, patches), torch.ones_like(patches)
        )
        put = (found / times.clamp(min=1)).where(times > 0, dark)
        return {
            "view": view,
            "attended to": join_patches(seen, self._grid, self._size),
            "put in place": join_patches(put, self._grid, self._size),
        }

    def _drawn(self, crops: Crops) -> Tensor:
        """The cells in the order in which they come: int64 (B, cells)."""
        return crops.draw.fork(ANSWER).permutation(math.prod(self._grid))

    def _guess(self, view: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (B, cells, embed_dim) in this order, and logits of their places."""
        patches, _ = self.encoder.patches(view)
        tokens = self.encoder.embed(take_patches(patches, order))
        tokens = self.encoder.encode_embedded(tokens, context=self._context)
        return tokens, self.head(tokens)


def spread(cells: Tensor, patches: Tensor) -> Tensor:
    """Numbers of cells (B, N) for every voxel of patches (B, N, V)."""
    return cells[..., None].expand_as(patches)
