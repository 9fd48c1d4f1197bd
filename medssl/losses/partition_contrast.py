"""The global loss of Chaitanya et al.: crops of other parts of the body are the opposites."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medssl.losses.pairs import similarities, wide_pair
from medssl.processes import gather_rows, mean_value, sum_processes, world

Positives = Literal["views", "partitions"]

# Instead of -inf for what is no opposite: exp of it is 0 too, and an anchor without any opposite
# has a loss and a gradient of 0 instead of none.
NOWHERE = -1e30


class PartitionContrast(nn.Module):
    """G^D- and G^D (Chaitanya et al. 2020, "Contrastive learning of global and local features for
    medical image segmentation with limited annotations", sec. 3.1, eq. 1 and 2).

    Volumes are cut into as many partitions along one axis. For a positive pair (i, j) of the 2B
    projections of two views, with s = cosine similarity / temperature:
    l(i, j) = -log(exp s(i, j) / (exp s(i, j) + sum over k of exp s(i, k))), k being the projections
    of crops of other partitions, of any volume. The loss is its mean over all ordered pairs that
    are positives: the two views of a crop, and with ``positives`` "partitions" (G^D) also the same
    view of two crops of one partition of different volumes.
    In several processes each one's anchors meet the candidates of all processes; value and (under
    DDP) gradient equal those of one process holding the whole batch.

    Args:
        temperature: > 0.
        positives: "views" (G^D-) or "partitions" (G^D).
    """

    def __init__(self, temperature: float = 0.1, positives: Positives = "partitions") -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"the temperature must be above 0, not {temperature}")
        if positives not in ("views", "partitions"):
            raise ValueError(f"positives are views or partitions, not {positives}")
        self.temperature, self.positives = temperature, positives

    def forward(self, z1: Tensor, z2: Tensor, partition: Tensor, volume: Tensor) -> Tensor:
        """Scalar float32 (float64 for float64 input).

        Args:
            z1, z2: two views' projections, each (B, D).
            partition: int64 (B,), the number of the partition that each crop lies in.
            volume: int64 (B,), the number of its volume.

        Raises:
            ValueError: the shapes do not fit, or there is one sample alone.
        """
        check_numbers(len(z1), partition, volume)
        with wide_pair(z1, z2, "contrast of partitions") as pair:
            cosines, _, partner = similarities(*pair)
            logits = cosines / self.temperature
            parts, volumes = gather_rows(partition), gather_rows(volume)
            same_part = (partition[:, None] == parts).repeat(2, 2)
            opposites = logits.masked_fill(same_part, NOWHERE).logsumexp(1, keepdim=True)
            positive = torch.zeros_like(same_part).scatter(1, partner[:, None], True)
            if self.positives == "partitions":
                matched = paired(partition, volume, parts, volumes)
                apart = torch.zeros_like(matched)
                views = torch.cat((matched, apart), 1), torch.cat((apart, matched), 1)
                positive |= torch.cat(views)
            return mean_over_pairs(F.softplus(opposites - logits), positive)


def paired(partition: Tensor, volume: Tensor, partitions: Tensor, volumes: Tensor) -> Tensor:
    """Which crops (B,) and which others (N,) are of one partition of different volumes:
    bool (B, N)."""
    return (partition[:, None] == partitions) & (volume[:, None] != volumes)


def mean_over_pairs(losses: Tensor, pairs: Tensor) -> Tensor:
    """The mean over the pairs of all processes of a loss for each pair.

    Args:
        losses: (anchors, candidates, *any) of this process's anchors.
        pairs: bool (anchors, candidates), which of them count; some must, in some process.
    """
    each = losses.flatten(2).mean(2) if losses.ndim > 2 else losses
    count = sum_processes(pairs.sum().to(each.dtype))
    return mean_value(torch.where(pairs, each, 0).sum() * (world()[1] / count))


def check_numbers(samples: int, partition: Tensor, volume: Tensor) -> None:
    """Raises ValueError where there is not one partition and one volume for each sample."""
    if partition.shape != (samples,) or volume.shape != (samples,):
        raise ValueError(
            f"{samples} samples have a partition and a volume each, not {tuple(partition.shape)} "
            f"and {tuple(volume.shape)}"
        )
