"""DeepCluster-v2: k-means over all volumes, then every view predicts its volume's cluster.

Caron et al. 2018 ("Deep clustering for unsupervised learning of visual features"); the second
version is in Caron et al. 2020 ("SwAV"), in the appendix.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medssl.losses import DeepCluster as DeepClusterLoss
from medssl.losses import sinkhorn, spherical_kmeans
from medssl.methods.base import Crops, Samples, Step
from medssl.methods.joint import JointConfig, JointEmbedding, LocalViewsConfig
from medssl.networks import Encoder, Memory, Prototypes
from medssl.processes import from_first, world
from medssl.views import Draw


class DeepClusterConfig(JointConfig, LocalViewsConfig):
    """Clusters and how often they are made; sizes of the projector; how views are drawn."""

    prototypes: list[Annotated[int, Field(ge=2)]] = Field(
        [32, 64, 128], min_length=1, description="clusters, one number for each clustering"
    )
    temperature: float = Field(0.1, gt=0)
    iterations: int = Field(10, ge=1, description="of k-means")
    every: int | None = Field(
        None, ge=1, description="steps from one clustering to the next; null: one epoch of volumes"
    )


class DeepCluster(JointEmbedding):
    """DeepCluster-v2 with any encoder.

    Modules: ``encoder``, ``projector``, ``memory`` and ``prototypes``, which are the centroids:
    they are set, not trained.

    Attributes:
        assignments: int64 (heads, volumes), the cluster of each volume in the last clustering, -1
            for volumes that were not in it.
    """

    Config = DeepClusterConfig
    assignments: Tensor
    seed: Tensor

    def __init__(self, config: DeepClusterConfig, encoder: Encoder, samples: Samples) -> None:
        super().__init__(config, encoder, samples)
        self.memory = Memory(samples.volumes, config.projection)
        heads = [Prototypes(config.projection, count) for count in config.prototypes]
        self.prototypes = nn.ModuleList(heads).requires_grad_(False)
        empty = torch.full((len(heads), samples.volumes), -1)
        self.register_buffer("assignments", empty)
        # Drawn from torch's generator, which the run seeds before it makes the method.
        self.register_buffer("seed", torch.randint(1 << 62, ()))
        self._iterations, self._every, self._seen = config.iterations, config.every, 0
        self._loss = DeepClusterLoss(config.temperature)

    def step(self, crops: Crops) -> Step:
        """Cross entropy of all views with their volume's clusters, the mean over clusterings."""
        embedding, projections = self.embed(self.views(crops))
        first, second = (F.normalize(z.detach().float()) for z in projections[:2])
        middle = F.normalize(first + second)
        self.memory.put(crops.volume, middle)
        joined, losses, clusters = torch.cat(projections), [], []
        for head, known in zip(self._heads, self.assignments, strict=True):
            scores = head(joined).chunk(len(projections))
            clusters.append(self._clusters(known[crops.volume], head(middle)))
            losses.append(self._loss(scores, clusters[-1]))
        self._seen += len(crops) * world()[1]
        return Step(
            torch.stack(losses).mean(),
            embedding=embedding,
            positives=(projections[0], projections[1]),
            teacher_probs=F.one_hot(clusters[0], len(self._heads[0].weight)).float(),
            trivial_loss=math.fsum(math.log(len(h.weight)) for h in self._heads) / len(losses),
        )

    def after_update(self, progress: float) -> None:
        """Cluster anew where it is time to."""
        epoch = max(1, math.ceil(self.assignments.shape[1] / max(1, self._seen)))
        self._seen = 0
        if (self.number + 1) % (self._every or epoch) == 0:
            self._cluster()

    @property
    def _heads(self) -> list[Prototypes]:
        return [head for head in self.prototypes if isinstance(head, Prototypes)]

    def _clusters(self, known: Tensor, scores: Tensor) -> Tensor:
        """The clusters of these volumes (B,). Those that were in no clustering yet are shared among
        the prototypes evenly: the nearest alone would draw ever more of them to one."""
        return torch.where(known < 0, sinkhorn(scores).argmax(1), known)

    @torch.no_grad()
    def _cluster(self) -> None:
        """k-means over the volumes seen so far, one for each head, each from other volumes."""
        seen = self.memory.seen()
        rows = self.memory.rows[seen]
        for number, head in enumerate(self._heads):
            draw = Draw(self.seed + seen, self.number * len(self.prototypes) + number)
            start = draw.bits().argsort(stable=True)
            places = torch.arange(len(head.weight), device=seen.device) % len(start)
            centroids, clusters = spherical_kmeans(rows, rows[start[places]], self._iterations)
            head.weight.copy_(from_first(centroids))
            self.assignments[number].fill_(-1)
            self.assignments[number, seen] = from_first(clusters)
