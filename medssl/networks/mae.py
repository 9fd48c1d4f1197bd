"""Networks that reconstruct masked images: for transformers and for convolutions.

Both have the same interface: `forward(x, mask, visible_cells=None) -> reconstruction`, and
`with_embedding`, which also gives what the encoder made of the visible part.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medssl.networks.conv import visible_at
from medssl.networks.decoder import decoder_for
from medssl.networks.encoder import Encoder
from medssl.networks.heads import pooled
from medssl.networks.parts import Parts, after_first, as_map, in_place
from medssl.networks.patches import join_patches, split_patches, take_patches
from medssl.networks.token_decoder import TokenDecoder, visible_first
from medssl.networks.vit import ViT


class TokenReconstructor(TokenDecoder):
    """Masked autoencoder (He et al. 2022, sec. 3): the encoder sees visible patches only; a light
    decoder sees them and a mask token in every other place, and predicts voxels linearly.

    Args:
        encoder: a ViT.
        decoder_dim, decoder_depth, decoder_heads, decoder_mlp_ratio: see :class:`TokenDecoder`.
        channels: of what is predicted; None: the image's.
        cell: voxels of the image per voxel of what is predicted, along each axis.

    Attributes:
        widths: channels of the queries and of the decoded features of :meth:`parts`.
    """

    def __init__(
        self,
        encoder: ViT,
        decoder_dim: int = 96,
        decoder_depth: int = 2,
        decoder_heads: int = 3,
        decoder_mlp_ratio: float = 4.0,
        channels: int | None = None,
        cell: int = 1,
    ) -> None:
        # Checkpoints number parameters: the encoder's come first.
        nn.Module.__init__(self)
        self.encoder, self._cell = encoder, cell
        width = encoder.channels[0]
        self._make(width, decoder_dim, decoder_depth, decoder_heads, decoder_mlp_ratio)
        voxels = (channels or encoder.in_channels) * (encoder.patch_size // cell) ** encoder.dims
        self.head = nn.Linear(decoder_dim, voxels)
        self.widths = decoder_dim, decoder_dim

    def forward(self, x: Tensor, mask: Tensor, visible_cells: int | None = None) -> Tensor:
        """Reconstruction (B, channels, *spatial / cell).

        Args:
            x: (B, C, *spatial); masked voxels have no influence on the result.
            mask: bool (B, 1, *grid), True = masked, one cell a patch, equally many in every sample.
            visible_cells: how many are visible a sample; None counts them, which waits for the
                device.

        Raises:
            ValueError: the grid is not one cell a patch, or samples differ in the count.
        """
        grid, order, count = self._order(x, mask, visible_cells)
        patches, positions = self.encoder.patches(x)
        keep = order[:, :count]
        tokens, _ = self._decode(take_patches(patches, keep), positions[keep], grid, order)
        predicted = self.head(self.norm(tokens))
        size = [n // self._cell for n in x.shape[2:]]
        return join_patches(in_place(predicted, order), grid, size)

    def masked_patches(
        self,
        x: Tensor,
        mask: Tensor,
        visible_cells: int | None = None,
        target: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Prediction and target of the masked patches alone: all that the loss needs.

        Args and raises: as `forward`.
            target: what is predicted, (B, channels, *spatial / cell); None: the image.

        Returns:
            Both (B, masked, channels x voxels of a patch), masked patches in row-major order of the
            grid; and the mean of the visible tokens, (B, embed_dim), without gradient.
        """
        grid, order, count = self._order(x, mask, visible_cells)
        patches, positions = self.encoder.patches(x)
        keep = order[:, :count]
        seen = take_patches(patches, keep)
        tokens, embedding = self._decode(seen, positions[keep], grid, order)
        predicted = self.head(self.norm(tokens[:, count:]))
        asked = patches if target is None else split_patches(target, grid)
        return predicted, take_patches(asked, order[:, count:]), embedding

    def parts(
        self, x: Tensor, mask: Tensor | None = None, visible_cells: int | None = None
    ) -> Parts:
        """Everything that is made of images; without a mask, of whole ones.

        Args and raises: as `forward`.
        """
        if mask is None:
            grid = self.encoder.grid(x.shape[2:])
            mask = torch.zeros(len(x), 1, *grid, dtype=torch.bool, device=x.device)
            visible_cells = mask[0].numel()
            found = self.parts(x, mask, visible_cells)
            return replace(found, image=None)
        grid, order, count = self._order(x, mask, visible_cells)
        patches, positions = self.encoder.patches(x)
        keep = order[:, :count]
        visible = self.encoder.encode_patches(take_patches(patches, keep), positions[keep])
        begun = self.begin(visible, grid, order)
        tokens = begun
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.norm(tokens)
        size = [n // self._cell for n in x.shape[2:]]
        image = join_patches(in_place(self.head(tokens), order), grid, size)
        queries, decoded = (as_map(in_place(t, order), grid) for t in (begun, tokens))
        return Parts(visible.mean(dim=1), queries, decoded, image)

    def _order(
        self, x: Tensor, mask: Tensor, visible_cells: int | None
    ) -> tuple[tuple[int, ...], Tensor, int]:
        """The grid, the numbers of its cells (B, cells), visible first, and how many those are."""
        grid, size = tuple(mask.shape[2:]), tuple(x.shape[2:])
        if tuple(n * self.encoder.patch_size for n in grid) != size:
            raise ValueError(
                f"an image of {size} cut into patches of {self.encoder.patch_size} voxels "
                f"does not have a grid of {grid} cells"
            )
        if visible_cells is None:
            counts = (~mask.flatten(1)).sum(dim=1)
            visible_cells = int(counts[0])
            if bool((counts != visible_cells).any()):
                raise ValueError("every sample of a batch must have equally many visible cells")
        return grid, visible_first(mask), visible_cells

    def _decode(
        self, seen: Tensor, positions: Tensor, grid: tuple[int, ...], order: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The decoder's tokens (B, cells, decoder_dim), in `order`, and the mean of what the
        encoder gave, (B, embed_dim), without gradient."""
        visible = self.encoder.encode_patches(seen, positions)
        return self.decode(visible, grid, order), visible.detach().mean(dim=1)


class ConvReconstructor(nn.Module):
    """Sparse masked modelling for convolutions (Tian et al. 2023, "SparK", sec. 3): the encoder
    keeps masked positions empty through every layer, each level's empty positions are filled with
    that level's mask token, and a U-Net decoder predicts the voxels.

    `decoder` is the Segmenter's, so that its weights transfer with the encoder's; only
    `decoder.head` differs in shape.

    Args:
        encoder: one that can leave masked positions out (`Encoder.sparse`).
        channels: of what is predicted; None: the image's.
        cell: voxels of the image per voxel of what is predicted, along each axis; the decoder's
            voxels are averaged over it.

    Attributes:
        widths: channels of the queries and of the decoded features of :meth:`parts`.
    """

    def __init__(self, encoder: Encoder, channels: int | None = None, cell: int = 1) -> None:
        super().__init__()
        if not encoder.sparse:
            raise ValueError(
                "masked modelling needs an encoder that can leave masked positions out, as all "
                "convolutional ones and the ViT can"
            )
        self.encoder, self._cell = encoder, cell
        one = (1,) * encoder.dims
        self.mask_tokens = nn.ParameterList(
            nn.Parameter(0.02 * torch.randn(1, width, *one)) for width in encoder.channels
        )
        self.decoder = decoder_for(encoder, channels or encoder.in_channels)
        self.widths = encoder.channels[-1], self.decoder.widths[:2][-1]

    def forward(self, x: Tensor, mask: Tensor, visible_cells: int | None = None) -> Tensor:
        """Reconstruction (B, channels, *spatial / cell).

        Args:
            x: (B, C, *spatial); masked voxels have no influence on the result.
            mask: bool (B, 1, *grid), True = masked. A cell is at least the encoder's total stride
                wide, and the grid divides the image.
            visible_cells: not needed here; accepted so that both reconstructors are called alike.

        Raises:
            ValueError: the grid divides the image or a feature map unevenly.
        """
        return self.with_embedding(x, mask, visible_cells)[0]

    def with_embedding(
        self, x: Tensor, mask: Tensor, visible_cells: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """The reconstruction, and the pooled features of the visible part, (B, C)."""
        features, filled = self._encode(x, mask)
        predicted = self.decoder(filled, x * visible_at(~mask, x.shape[2:], x.dtype))
        return self._averaged(predicted), pooled([features[-1].detach()])

    def parts(
        self, x: Tensor, mask: Tensor | None = None, visible_cells: int | None = None
    ) -> Parts:
        """Everything that is made of images; without a mask, of whole ones.

        Args and raises: as `forward`.
        """
        if mask is None:
            features = self.encoder(x)
            decoded = after_first(self.decoder.maps(features, x))
            return Parts(pooled(features), features[-1], decoded, None)
        features, filled = self._encode(x, mask)
        masked = x * visible_at(~mask, x.shape[2:], x.dtype)
        maps = list(self.decoder.maps(filled, masked))
        image = self._averaged(self.decoder.finish(maps[-1], masked))
        visible = (~mask).flatten(1).float().mean(1, keepdim=True).clamp(min=1e-6)
        mean = pooled(features) / visible
        return Parts(mean, filled[-1], after_first(iter(maps)), image)

    def _encode(self, x: Tensor, mask: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """The encoder's maps, empty where masked; and filled with the mask tokens there."""
        visible = ~mask
        features = self.encoder(x, visible)
        filled = []
        for feature, token in zip(features, self.mask_tokens, strict=True):
            seen = visible_at(visible, feature.shape[2:], feature.dtype)
            filled.append(feature + token.to(feature.dtype) * (1.0 - seen))
        return features, filled

    def _averaged(self, predicted: Tensor) -> Tensor:
        """The decoder's voxels, averaged over the cells of the target."""
        if self._cell == 1:
            return predicted
        pool = F.avg_pool2d if self.encoder.dims == 2 else F.avg_pool3d
        return pool(predicted, self._cell)


def reconstructor_for(
    encoder: Encoder,
    channels: int | None = None,
    cell: int = 1,
    decoder_dim: int = 96,
    decoder_depth: int = 2,
) -> TokenReconstructor | ConvReconstructor:
    """The reconstructor of an encoder; the decoder's sizes are the ViT's, others have their own.

    Args: as of the two classes.
    """
    if isinstance(encoder, ViT):
        return TokenReconstructor(encoder, decoder_dim, decoder_depth, channels=channels, cell=cell)
    return ConvReconstructor(encoder, channels, cell)
