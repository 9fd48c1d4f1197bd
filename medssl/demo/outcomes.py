"""The report from the encoder on: fine-tuning, and the held-out patients."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from medssl.demo import pictures, plots
from medssl.drawing.page import Block, Details, Picture, Section, Table

if TYPE_CHECKING:
    from medssl.demo.run import Gathered
    from medssl.evaluate.segmentation import SegmentationMetrics

_METRICS = ("dice", "nsd", "hd95_mm")


def mean_dice(gathered: Gathered, run: str) -> float:
    """Mean Dice over organs and held-out patients of one run's predictions."""
    from medssl.evaluate.segmentation import summarise

    summary = summarise([item.metrics for item in gathered.predictions[run]])
    return float(np.nanmean([row["dice"] for row in summary.values()]))


def _number(value: float, digits: int) -> str:
    return "n/a" if math.isnan(value) else f"{value:.{digits}f}"


def _signed(value: float, digits: int) -> str:
    return "n/a" if math.isnan(value) else f"{value:+.{digits}f}"


def finetuning_section(gathered: Gathered) -> Section:
    """Scratch beside pretrained, as measured."""
    settings = gathered.settings
    loss, dice = {}, {}
    for run, name in (("scratch", "from scratch"), ("pretrained", "pretrained")):
        history = gathered.finetuned[run].history.rows
        loss[name] = [(row["step"], row["loss"]) for row in history if "loss" in row]
        dice[name] = [
            (row["step"], row["validation_dice"]) for row in history if "validation_dice" in row
        ]
    transfer = gathered.finetuned["pretrained"].transfer
    blocks: list[Block] = [
        f"The same segmentation network was fine-tuned twice on the same {settings.labelled} "
        f"labelled torso patients for {settings.finetune_steps} steps with the same seed, once "
        "from random weights and once from the pretrained ones. Nothing else differs.",
    ]
    if transfer is not None:
        blocks.append(
            f"Weight transfer: {len(transfer.matched)} tensors matched, {len(transfer.adapted)} "
            f"adapted, {len(transfer.dropped)} dropped, {len(transfer.fresh)} new; "
            f"{100 * transfer.encoder_fraction:.0f} % of the encoder's values came over."
        )
    blocks += [
        Picture(
            plots.finetuning_curves(loss, dice),
            "Fine-tuning. Left: the training loss. Right: mean Dice over all organs on the "
            "validation patient, which is used for nothing else.",
            "Training loss and validation Dice of both runs",
            dark=False,
        ),
        _metrics_table(gathered),
        _dots(gathered),
    ]
    return Section("finetuning", f"Fine-tuning with {settings.labelled} labels", blocks)


def _metrics_table(gathered: Gathered) -> Table:
    from medssl.evaluate.segmentation import summarise

    names = gathered.patients.of("CT")[0].label_names
    runs = [
        summarise([p.metrics for p in gathered.predictions[run]])
        for run in ("scratch", "pretrained")
    ]
    rows = []
    for number, name in names.items():
        pair = [run[number] for run in runs]
        missed = " / ".join(f"{row['missed']:.0f}" for row in pair)
        cells = _columns([[row[m] for row in pair] for m in _METRICS])
        rows.append([name, *cells, missed])
    means = [
        [float(np.nanmean([row[metric] for row in run.values()])) for run in runs]
        for metric in _METRICS
    ]
    rows.append(["Mean of all", *_columns(means), ""])
    cases = len(gathered.predictions["scratch"])
    tolerance = gathered.settings.nsd_tolerance_mm
    return Table(
        ["Organ", "scratch", "pretrained", "change", "scratch", "pretrained", "scratch",
         "pretrained", "missed"],
        rows,
        f"Segmentation of {_patients(cases)}, measured on the label maps that `medssl "
        "predict` wrote from their DICOM. Dice: overlap, 1 is perfect. NSD: share of the surface "
        f"within {tolerance:g} mm of the true one. HD95: 95th percentile of the surface distance. "
        "Missed: patients in whom the organ was not found at all (scratch / pretrained); these "
        "count as Dice 0, NSD 0 and an HD95 of the image's diagonal.",
        emphasise=(len(rows) - 1,),
        groups=(("", 1), ("Dice", 3), (f"NSD at {tolerance:g} mm", 2), ("HD95, mm", 2), ("", 1)),
    )  # fmt: skip


def _patients(count: int) -> str:
    return f"{count} held-out patient{'' if count == 1 else 's'}"


def _columns(pairs: Sequence[Sequence[float]]) -> list[str]:
    dice, nsd, distance = pairs
    return [
        _number(dice[0], 3),
        _number(dice[1], 3),
        _signed(dice[1] - dice[0], 3),
        _number(nsd[0], 3),
        _number(nsd[1], 3),
        _number(distance[0], 1),
        _number(distance[1], 1),
    ]


def _dots(gathered: Gathered) -> Picture:
    names = gathered.patients.of("CT")[0].label_names
    values = {
        run: [[p.metrics[number].dice for p in predictions] for number in names]
        for run, predictions in gathered.predictions.items()
    }
    return Picture(
        plots.paired_dots(list(names.values()), values["scratch"], values["pretrained"]),
        "Dice of every held-out patient. A line joins the two results of one patient.",
        "Paired Dice by organ",
        dark=False,
    )


def held_out_section(gathered: Gathered) -> Section:
    """Predictions beside the truth, patient by patient."""
    blocks: list[Block] = [
        "The held-out patients went in as DICOM series and came back as DICOM SEG and NIfTI on "
        "their own grid. Each written file was read again and compared with the prediction in "
        "patient coordinates before it was accepted.",
    ]
    phantoms = gathered.patients.of("CT", "test")
    pairs = zip(gathered.predictions["scratch"], gathered.predictions["pretrained"], strict=True)
    for number, (phantom, (scratch, pretrained)) in enumerate(zip(phantoms, pairs, strict=True), 1):
        blocks.append(
            Picture(
                pictures.overlays(phantom, scratch, pretrained),
                f"Held-out patient {number} (`{scratch.case_id}`). Colour: the label; white "
                "outline: the true border. Mean Dice "
                f"{_mean(scratch.metrics.values()):.3f} from scratch, "
                f"{_mean(pretrained.metrics.values()):.3f} pretrained.",
                f"Overlays of held-out patient {number}",
            )
        )
    blocks.append(Details("Volumes by patient and organ", [_volumes(gathered)]))
    return Section("held-out", "Held-out patients", blocks)


def _mean(metrics: Iterable[SegmentationMetrics]) -> float:
    return float(np.nanmean([item.dice for item in metrics]))


def _volumes(gathered: Gathered) -> Table:
    rows = []
    phantoms = gathered.patients.of("CT", "test")
    for number, phantom in enumerate(phantoms):
        millilitres = float(np.prod(phantom.spacing)) / 1000
        for value, name in phantom.label_names.items():
            maps = [phantom.label[0]]
            maps += [gathered.predictions[run][number].label for run in ("scratch", "pretrained")]
            volumes = [f"{(m == value).sum() * millilitres:.1f}" for m in maps]
            rows.append([f"{number + 1}", name, *volumes])
    return Table(
        ["Patient", "Organ", "Truth", "From scratch", "Pretrained"], rows, "Volumes in ml.", 2
    )
