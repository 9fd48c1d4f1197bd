"""A student that reconstructs masked images and is compared with a teacher of whole ones."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from medssl.networks.casa import CrossAttention, pooled_to
from medssl.networks.mae import ConvReconstructor, TokenReconstructor
from medssl.networks.prototypes import Prototypes


@dataclass(frozen=True)
class Seen:
    """What a student or a teacher makes of B images.

    Attributes:
        features: (B, channels), pooled.
        queries: (B, Q, *grid), what its local tokens can be asked with.
        image: the reconstruction, (B, C, *size / cell); None of whole images.
        overall: logits of the images over prototypes, (B, K); None without a head for them.
        local: logits of their tokens, (B x tokens, K); None without a head for them.
    """

    features: Tensor
    queries: Tensor
    image: Tensor | None
    overall: Tensor | None
    local: Tensor | None


class MaskedStudent(nn.Module):
    """A reconstructor, and heads on its pooled features and on its local tokens (Jiang et al. 2023,
    "Alice", fig. 2). Local tokens are what cross-attention reads from the decoder's features, or,
    without it, these features themselves.

    Args:
        reconstructor: holds the encoder.
        overall: (B, channels) -> (B, K); None: there are no logits of images.
        local: (N, width) -> (N, K); None: there are none of tokens.
        casa: of that width; None: tokens are the decoder's features.
    """

    def __init__(
        self,
        reconstructor: ConvReconstructor | TokenReconstructor,
        overall: nn.Module | None,
        local: nn.Module | None,
        casa: CrossAttention | None,
    ) -> None:
        super().__init__()
        self.reconstructor, self.overall, self.local = reconstructor, overall, local
        self.casa = casa

    def forward(
        self,
        image: Tensor,
        mask: Tensor | None = None,
        visible_cells: int | None = None,
        queries: Tensor | None = None,
    ) -> Seen:
        """What it makes of images.

        Args:
            image: (B, in_channels, *spatial).
            mask: bool (B, 1, *grid), True = masked; None: whole images.
            visible_cells: as of the reconstructor.
            queries: what tokens are asked with; None: its own.
        """
        parts = self.reconstructor.parts(image, mask, visible_cells)
        asked = parts.queries if queries is None else queries
        overall = None if self.overall is None else self.overall(parts.pooled)
        local = None
        if self.local is not None:
            if self.casa is None:
                tokens = pooled_to(parts.decoded, asked.shape[2:])
            else:
                tokens = self.casa(asked, parts.decoded)
            local = self.local(tokens.flatten(0, 1))
        return Seen(parts.pooled, parts.queries, parts.image, overall, local)

    def freeze(self, frozen: bool) -> None:
        """Whether the prototypes of both heads stand still."""
        for module in self.modules():
            if isinstance(module, Prototypes):
                module.frozen = frozen
