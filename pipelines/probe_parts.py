"""Which parts of a pretrained U-Net know the labels?

After ``pipelines/label_efficiency.py``, of its folder: a linear probe on the frozen feature maps
of every level of the encoder and of the decoder, and of all together, at single voxels, against the
same network with random weights. The labelled subjects are those that the fine-tuning of a seed
has; the probes are measured on the validation subjects.

    python pipelines/probe_parts.py STUDY
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import torch
import typer
from torch import Tensor

from medssl.bundle import Architecture, Bundle, TaskSpec, build
from medssl.cli.ending import script
from medssl.evaluate.classification import classification_metrics
from medssl.evaluate.features import voxel_features
from medssl.evaluate.probe import linear_probe
from medssl.evaluate.stats import paired_interval, verdict
from medssl.evaluate.targets import segmentation_volumes
from medssl.finetune.transfer import transfer
from medssl.networks import Encoder, Segmenter
from medssl.store import Store
from medssl.store.named_splits import splits_of
from medssl.store.splits import choose_subjects


class Parts(Encoder):
    """A segmenter's feature maps in the order they are made: the encoder's, the decoder's.

    Args:
        segmenter: of a convolutional encoder whose finest level has the image's own grid.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        encoder, decoder = segmenter.encoder, segmenter.decoder
        self.encoder, self.decoder = encoder, decoder
        self.dims, self.in_channels = encoder.dims, encoder.in_channels
        rising = [encoder.strides[-1], *decoder.stage_strides]
        widths = dict(zip(encoder.strides, encoder.channels, strict=True))
        self.strides = (*encoder.strides, *rising)
        self.channels = (*encoder.channels, *(widths[stride] for stride in rising))

    def names(self) -> list[str]:
        """Of the maps: the part and its stride."""
        levels = len(self.encoder.strides)
        rooms = ["encoder"] * levels + ["decoder"] * (len(self.strides) - levels)
        return [f"{room}, stride {n}" for room, n in zip(rooms, self.strides, strict=True)]

    def forward(self, x: Tensor, visible: Tensor | None = None) -> list[Tensor]:
        """As :class:`medssl.networks.Decoder` does it, keeping what is between."""
        features = self.encoder(x, visible)
        skips = dict(zip(self.encoder.strides, features, strict=True))
        rising = [self.decoder.context(features[-1])]
        for stride, stage in zip(self.decoder.stage_strides, self.decoder.stages, strict=True):
            rising.append(stage(rising[-1], skips.get(stride)))
        return [*features, *rising]


def main(
    study: Annotated[Path, typer.Argument(help="OUT of pipelines/label_efficiency.py.")],
    labels: Annotated[
        list[int] | None, typer.Option(help="Numbers of labelled subjects; 1, 2 and 9.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=2, help="Draws of subjects and random weights.")] = 3,
) -> None:
    """Probe every level of the pretrained network of a study."""
    store = Store.open(study / "store")
    table = probe(store, Bundle.load(study / "pretrained" / "bundle"), labels or [1, 2, 9], seeds)
    table.to_csv(study / "parts.csv", index=False)
    typer.echo(markdown(table))


def networks(bundle: Bundle, outputs: int, seeds: int) -> list[Parts]:
    """The pretrained network, then one of random weights for each seed."""
    task = TaskSpec(kind="segmentation", classes=outputs)
    built = Architecture(encoder=bundle.spec.architecture.encoder, task=task)
    found = []
    for seed in range(seeds + 1):
        torch.manual_seed(seed)
        model = build(built)
        assert isinstance(model, Segmenter)
        if seed == 0:
            transfer(model, bundle.state())
        found.append(Parts(model))
    return found


def probe(store: Store, bundle: Bundle, labels: list[int], seeds: int) -> pd.DataFrame:
    """One row per part, number of labelled subjects, seed and arm, with the AUROC (one class
    against the rest, mean)."""
    split, ids = splits_of(store), segmentation_volumes(store)
    subject_of = {v: store[v].subject_id for v in ids}
    pool = sorted({s for s in subject_of.values() if split[s] == "train"})
    tested = {s for s in subject_of.values() if split[s] == "validation"}
    drawn = {(n, seed): choose_subjects(pool, n, seed) for n in labels for seed in range(seeds)}
    needed = tested.union(*drawn.values())
    ids = [v for v in ids if subject_of[v] in needed]
    classes = [0, *store.info.label_names]
    nets = networks(bundle, max(classes) + 1, seeds)
    found = [voxel_features(net, store, ids, bundle.spec.contract, classes) for net in nets]
    owners, truth = np.array(found[0].subject_ids), found[0].labels
    test = np.isin(owners, sorted(tested))
    ends = np.cumsum(nets[0].channels)
    spans = list(zip(nets[0].names(), [0, *ends[:-1]], ends, strict=True))
    spans.append(("all levels", 0, ends[-1]))
    rows = []
    for (n, seed), subjects in drawn.items():
        train = np.isin(owners, subjects)
        for arm, one in (("pretrained", found[0]), ("random", found[seed + 1])):
            for name, first, end in spans:
                values = one.values[:, first:end].numpy()
                scores = linear_probe(
                    values[train], truth[train], owners[train].tolist(), values[test], len(classes)
                ).scores
                auroc = classification_metrics(scores, truth[test])["auroc"]
                rows.append({"labels": n, "part": name, "seed": seed, "arm": arm, "auroc": auroc})
    return pd.DataFrame(rows)


def markdown(table: pd.DataFrame) -> str:
    """Means over seeds, and the paired difference with its 95 % interval."""
    lines = [
        "| labelled subjects | part | random | pretrained | difference [95 % CI] | seeds |"
        " pretrained better |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for (labels, part), rows in table.groupby(["labels", "part"], sort=False):
        wide = rows.pivot_table(index="seed", columns="arm", values="auroc")
        found = paired_interval(wide["pretrained"].to_numpy(), wide["random"].to_numpy())
        lines.append(
            f"| {labels} | {part} | {wide['random'].mean():.3f} | {wide['pretrained'].mean():.3f} |"
            f" {found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}] | {len(wide)} |"
            f" {verdict(found)} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    script(main)
