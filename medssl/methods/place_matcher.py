"""Finding a place in another patient by a frozen embedding of places."""

from __future__ import annotations

import torch
from torch import Tensor

from medssl.networks import PlaceEmbedding, PlaceMaps
from medssl.views.places import inside


class PlaceMatcher:
    """Matches points by the similarity of their embeddings (Yan et al. 2022, "SAM", sec. III-C).

    The embedding is not trained, is no part of a method's state, and follows the images to their
    device.

    Args:
        embedding: frozen from now on.
    """

    def __init__(self, embedding: PlaceEmbedding) -> None:
        self._embedding = embedding.eval().requires_grad_(False)

    @torch.no_grad()
    def match(
        self, image: Tensor, partner: Tensor, points: Tensor, low: Tensor, high: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Where points of images are in their partners, all at once.

        Args:
            image: float32 (B, C, *size).
            partner: int64 (B,), which image to look in.
            points: voxels (B, d, P).
            low, high: of the places that may be found, (d,).

        Returns:
            voxels, float32 (B, d, P), the best cell of the fine map; and the similarity there,
            float32 (B, P), -1 to 1.
        """
        embedding = self._embedding.to(image.device)
        with torch.autocast(image.device.type, enabled=False):
            maps = embedding(image)
            others = PlaceMaps(*(cells[partner] for cells in maps))
            alike = embedding.similarity(embedding.sample(maps, points), others).flatten(2)
        grid = others.fine.shape[2:]
        cells = torch.arange(alike.shape[2], device=image.device)
        centres = embedding.centres(cells[None], grid)[0]
        # Half a cell more, so that there is one where a view fills its crop along an axis.
        margin = embedding.strides[0] / 2
        near = (centres >= low[:, None] - margin) & (centres <= high[:, None] + margin)
        score, index = alike.masked_fill(~near.all(0), -torch.inf).max(dim=2)
        return inside(embedding.centres(index, grid), low, high), score
