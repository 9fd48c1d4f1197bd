"""Losses that look across samples: two processes give the value and the gradient of one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from two_processes import compare

from medssl.losses import (
    DCL,
    DINO,
    BarlowTwins,
    CellInfoNCE,
    CentredCE,
    DeepCluster,
    InfoNCE,
    InterDimension,
    MixedBarlow,
    NegativeCosine,
    NTXent,
    PartitionContrast,
    PixelConsistency,
    PlaceContrast,
    RegionContrast,
    Relation,
    SwAV,
    VICReg,
    sinkhorn,
)
from medssl.losses.off_diagonal import by_samples
from medssl.methods.pretext import answered
from medssl.processes import gather_rows, world


class Wide(torch.nn.Module):
    """A loss of embeddings repeated into more dimensions than there are samples."""

    def __init__(self, loss: torch.nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        """(B, D) each; sines of multiples keep the dimensions apart."""
        z1, z2 = (torch.cat((z, (2 * z).sin(), (3 * z).cos()), dim=1) for z in (z1, z2))
        value: Tensor = self.loss(z1, z2)
        return value


class Centred(torch.nn.Module):
    """DINO with a centre that has seen the batch; both views are the teacher's too."""

    def __init__(self) -> None:
        super().__init__()
        self.loss = DINO(4, 0.5, momentum=0.0)

    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        """(B, K) logits each."""
        self.loss.follow(torch.cat((z1, z2)))
        taught = [self.loss.probabilities(z, 0.3) for z in (z1, z2)]
        value: Tensor = self.loss((z1, z2), taught)
        return value


class Weighted(torch.nn.Module):
    """Rows against a centred teacher's, of which some count and processes have unequally many."""

    def __init__(self) -> None:
        super().__init__()
        self.loss = CentredCE(4, 0.5, momentum=0.0)

    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        """(B, K) logits each."""
        self.loss.follow(z2)
        weight = (z2.detach()[:, 0] > -0.5).float() + (z2.detach()[:, 1] > 0)
        value: Tensor = self.loss(z1, self.loss.probabilities(z2, 0.3), weight)
        return value


class Swapped(torch.nn.Module):
    """SwAV's loss, the embeddings being the scores."""

    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        """(B, K) each."""
        loss, queued = SwAV(1.0, epsilon=0.5), torch.linspace(-1, 1, 12).reshape(3, 4)
        value: Tensor = loss([z1, z2], [loss.assign(z, queued) for z in (z1, z2)])
        return value


class Between(torch.nn.Module):
    """Agreement of volumes and slices, the first view's embeddings being scores of the former."""

    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        """(B, K) each."""
        volumes, slices = z1[None], torch.stack((z2, z2.sin()))
        codes = [torch.stack([sinkhorn(z, 0.5) for z in side]) for side in (volumes, slices)]
        value: Tensor = InterDimension(1.0)(volumes, codes[0], slices, codes[1])
        return value


class Clustered(torch.nn.Module):
    """DeepCluster's loss, the embeddings being the scores, of clusters shared out evenly."""

    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        """(B, K) each."""
        value: Tensor = DeepCluster(1.0)([z1, z2], sinkhorn(z1, 0.5).argmax(1))
        return value


class Mixed(torch.nn.Module):
    """Mixed Barlow Twins of views and something between them; partners are of one process."""

    def __init__(self) -> None:
        super().__init__()
        self.loss = MixedBarlow(0.1, 2.0)

    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        """(B, D) each, B a multiple of three."""
        partner = torch.arange(len(z1)).unflatten(0, (-1, 3)).roll(1, dims=1).flatten()
        mixed = (z1 + 2 * z2[partner]).sin()
        value: Tensor = self.loss(z1, z2, mixed, torch.tensor(0.3), partner)
        return value


class Related(torch.nn.Module):
    """The loss of ReSSL with others that all processes have."""

    def __init__(self) -> None:
        super().__init__()
        self.loss = Relation(0.3, 0.2)
        self.others = torch.randn(7, 4, generator=torch.Generator().manual_seed(2))

    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        """(B, D) each."""
        value: Tensor = self.loss(z1, self.loss.relations(z2, self.others), self.others)
        return value


class Cells(torch.nn.Module):
    """PixPro's loss of embeddings whose halves are cells, sample by sample other ones paired."""

    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        """(B, D) each, D even."""
        pairs = torch.stack((z1[:, :2] > z2[:, :2], z1[:, 2:] > z2[:, 2:]), dim=2)
        value: Tensor = PixelConsistency()(halves(z1), halves(z2), pairs)
        return value


class CellsApart(torch.nn.Module):
    """The loss of dense contrast, halves being cells, with the others of all processes."""

    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        """(B, D) each, D even."""
        others = gather_rows(z2.detach())
        allowed = (others - z2[:, None]).abs().amax(2) > 0
        cells = halves(z2)
        valid, far = cells[..., 0] > -1, torch.eye(2, dtype=torch.bool).expand(len(z2), -1, -1)
        value: Tensor = CellInfoNCE(0.5)(
            halves(z1), cells, valid, others[:, 1:3], allowed, cells.flip(1), far
        )
        return value


def halves(z: Tensor) -> Tensor:
    """(B, D) -> (B, 2, D / 2)."""
    return z.unflatten(1, (2, -1))


class Answered(torch.nn.Module):
    """The loss of pretext tasks, the first embeddings being the logits of what the others ask."""

    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        """(B, K) each."""
        return answered(z1, z2.argmax(1), z1).loss


class Points(torch.nn.Module):
    """The loss of anatomical embeddings: three rows are the points of a sample, the last of which
    counts in some; every sample is of another subject."""

    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        """(B, D) each, B a multiple of three; 3 points and 5 candidates of B / 3 samples."""
        q, k = (z.unflatten(0, (-1, 3)) for z in (z1, z2))
        candidates = torch.cat((k.sin(), q.cos()[:, :2]), dim=1)
        allowed = torch.tensor([[1, 0, 1, 1, 1], [1, 1, 0, 1, 0], [0, 0, 0, 0, 0]]).bool()
        counts = torch.ones_like(q[:, :, 0], dtype=torch.bool)
        counts[:, 2] = q[:, 2, 1] > 0
        subject = (1000 * q[:, 0, 0].detach()).round().long()
        allowed = allowed.expand(len(q), -1, -1)
        loss = PlaceContrast(0.3, hard=2)
        value: Tensor = loss(q, k, counts, candidates, allowed, q.sin()[:, :2], subject)
        return value


PARTITION, VOLUME = torch.tensor([0, 1, 0, 1, 0, 2]), torch.tensor([0, 1, 1, 0, 2, 2])


class Placed(torch.nn.Module):
    """A loss that is told partition and volume of every sample, where it asks."""

    def __init__(self, loss: torch.nn.Module, told: bool = True) -> None:
        super().__init__()
        self.loss, self.told = loss, told

    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        """(B, D) each; regions, where there are any, are made of them."""
        rank, own = world()[0], len(z1)
        numbers = [n[rank * own : (rank + 1) * own] for n in (PARTITION, VOLUME) if self.told]
        if isinstance(self.loss, RegionContrast):
            z1, z2 = (torch.stack((z, (2 * z).sin(), (3 * z).cos()), dim=1) for z in (z1, z2))
        value: Tensor = self.loss(z1, z2, *numbers)
        return value


LOSSES = {
    "DINO": Centred(),
    "CentredCE": Weighted(),
    "InfoNCE": InfoNCE(0.2),
    "NegativeCosine": NegativeCosine(),
    "NTXent": NTXent(0.2),
    "DCL": DCL(0.2),
    "DCLW": DCL(0.2, 0.5),
    "MixedBarlow": Mixed(),
    "MixedBarlow, wide": Wide(Mixed()),
    "PlaceContrast": Points(),
    "Relation": Related(),
    "G^D-": Placed(PartitionContrast(0.3, "views")),
    "G^D": Placed(PartitionContrast(0.3, "partitions")),
    "L^D": Placed(RegionContrast((1, 3), 2, 0.3)),
    "L^R": Placed(RegionContrast((1, 3), 2, 0.3), told=False),
    "BarlowTwins": BarlowTwins(0.1),
    "BarlowTwins, wide": Wide(BarlowTwins(0.1)),
    "SwAV": Swapped(),
    "InterDimension": Between(),
    "DeepCluster": Clustered(),
    "answered": Answered(),
    "VICReg": VICReg(),
    "VICReg, wide": Wide(VICReg()),
    "PixelConsistency": Cells(),
    "CellInfoNCE": CellsApart(),
}


@pytest.fixture(scope="module")
def compared() -> dict[str, tuple[Tensor, list[Tensor]]]:
    return compare(LOSSES)


@pytest.mark.parametrize("name", LOSSES)
def test_two_processes_equal_one(compared, name: str):
    expected, both = compared[name]
    for got in both:
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_both_ways_are_compared():
    # Six samples in all; 4 dimensions, or 12.
    assert not by_samples(6, 4, 1)
    assert not by_samples(6, 4, 2)
    assert by_samples(6, 12, 1)
    assert by_samples(6, 12, 2)
