"""What the report says: the summary, the sections in order, limits, files and commands."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING

from medssl.demo import outcomes, plots, sections
from medssl.drawing.page import Commands, Fact, Picture, Report, Section, Table

if TYPE_CHECKING:
    from medssl.demo.run import Gathered

BANNER = "Synthetic patients. For demonstration only, not for clinical use."


def commands_of(out: Path) -> list[tuple[str, str]]:
    """The commands that open MLflow and the review app on what the demonstration made."""
    from medssl import tracking

    uri = os.environ.get("MLFLOW_TRACKING_URI") or tracking.default_uri(out)
    return [
        (f"mlflow ui --backend-store-uri {uri}", "Training runs, curves and bundles in MLflow"),
        (f"medssl review {out / 'results' / 'pretrained'}", "Review the predictions"),
    ]


def report_of(
    gathered: Gathered, out: Path, seconds: float, commands: list[tuple[str, str]]
) -> Report:
    """The whole report."""
    patients, settings = gathered.patients, gathered.settings
    dice = {run: outcomes.mean_dice(gathered, run) for run in ("scratch", "pretrained")}
    facts = [
        Fact(str(len(patients.phantoms)), "synthetic patients"),
        Fact(str(patients.files), "DICOM files ingested"),
        Fact(f"{dice['scratch']:.3f}", "mean Dice, from scratch"),
        Fact(f"{dice['pretrained']:.3f}", "mean Dice, pretrained"),
        Fact(_duration(seconds), "until this report"),
    ]
    return Report(
        title="medssl demo report",
        subtitle="From DICOM to a segmentation ready for review: ingest, pretrain, evaluate, "
        "fine-tune, predict",
        banner=BANNER,
        facts=facts,
        lead=_lead(gathered, dice),
        sections=[
            sections.patients_section(gathered),
            sections.ingest_section(gathered),
            sections.pretraining_section(gathered),
            sections.features_section(gathered),
            outcomes.finetuning_section(gathered),
            outcomes.held_out_section(gathered),
            _limits(gathered),
            _files(gathered, out, commands),
        ],
        footer=f"Made by `medssl demo{' --quick' if settings.quick else ''}` on "
        f"{os.cpu_count()} cores with Python {platform.python_version()}.",
    )


def _lead(gathered: Gathered, dice: dict[str, float]) -> list[str]:
    count = len(gathered.predictions["scratch"])
    held_out = "one held-out patient" if count == 1 else f"{count} held-out patients"
    change = dice["pretrained"] - dice["scratch"]
    word = "higher" if change > 0 else "lower" if change < 0 else "no different"
    size = f"{abs(change):.3f} {word}" if change else word
    lead = [
        f"With {gathered.settings.labelled} labelled patients, the network that started from the "
        f"pretrained weights reached a mean Dice of **{dice['pretrained']:.3f}** on {held_out}, "
        f"and the same network from random weights **{dice['scratch']:.3f}**: "
        f"{size} with pretraining.",
        f"This is one seed and {held_out}, drawn by a computer. It shows that the path works; it "
        "does not show how much pretraining helps on your scans.",
    ]
    if gathered.settings.quick:
        lead.insert(0, "**A quick run:** training is cut short, and the numbers mean nothing.")
    return lead


def _limits(gathered: Gathered) -> Section:
    return Section(
        "limits",
        "What this does not show",
        [
            "**One seed, few patients.** Differences of this size can be chance. For paired seeds "
            "and confidence intervals on real scans run `pipelines/label_efficiency.py`.",
            "**Synthetic anatomy.** Organs are smoother and more alike than in people, noise is "
            "simple, and there are no artefacts, implants or variants.",
            "**Short training.** A few minutes on a processor; neither run has converged, and a "
            "head start counts for more in a short run. Small lesions in particular need more "
            "labels and longer training.",
            "**Coarse grids.** The voxels are several millimetres wide, to be quick. Surface "
            "distances cannot be finer than that.",
        ],
    )


def _files(gathered: Gathered, out: Path, commands: list[tuple[str, str]]) -> Section:
    stages = gathered.stages
    described = [
        ("data/dicom", "The patients as DICOM series: training, held out"),
        ("data/nifti", "The patients as NIfTI with label maps and tables"),
        ("stores/scans, stores/labelled", "The stores that ingest made, with manifest and ledger"),
        ("pretrain/bundle", "The pretrained encoder: safetensors and its contract"),
        ("finetune/scratch, finetune/pretrained", "Both segmentation models and their metrics"),
        ("results/scratch, results/pretrained", "Predictions: DICOM SEG, NIfTI, status.json"),
        ("evaluation", "Probes of the frozen encoder"),
        ("mlflow.db", "Configurations, metrics and figures of every run"),
    ]
    rows = [[f"`{name}`", text] for name, text in described if (out / name.split(",")[0]).exists()]
    return Section(
        "files",
        "Files, timing, next steps",
        [
            Commands([(line, text) for line, text in commands]),
            Table(["In the output folder", "What it is"], rows, "What was made.", 2),
            Picture(
                plots.stage_bars([s.name for s in stages], [s.seconds for s in stages]),
                "Duration of each stage on this machine.",
                "Bars of seconds by stage",
                dark=False,
            ),
        ],
    )


def _duration(seconds: float) -> str:
    return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
