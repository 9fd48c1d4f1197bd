"""The whole path on synthetic patients: `medssl demo`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from medssl.demo.measure import (
    Prediction,
    Reconstruction,
    reconstruct,
    score_predictions,
    volume_of,
)
from medssl.demo.patients import Patients, make_patients
from medssl.demo.settings import FULL, QUICK, DemoSettings
from medssl.errors import MedsslError

if TYPE_CHECKING:
    from medssl.bundle import InputContract
    from medssl.evaluate.run import EvaluationResult
    from medssl.finetune.run import FinetuneResult
    from medssl.ingest.account import IngestSummary
    from medssl.ingest.pseudonym import Pseudonymizer
    from medssl.training.pretrain import PretrainResult

RUNS = ("scratch", "pretrained")

# The patients are fictional, so there is nothing to protect, and with a fixed key every run of the
# demonstration chooses the same two labelled patients.
_KEY = "0123456789abcdef" * 4

Say = Callable[[str], None]


@dataclass(frozen=True)
class Stage:
    """One step of the path and its duration."""

    name: str
    seconds: float


@dataclass
class Gathered:
    """Everything the stages leave behind, for the report."""

    settings: DemoSettings
    patients: Patients
    ingested: dict[str, IngestSummary] = field(default_factory=dict)
    pretrained: PretrainResult | None = None
    finetuned: dict[str, FinetuneResult] = field(default_factory=dict)
    predictions: dict[str, list[Prediction]] = field(default_factory=dict)
    reconstructions: list[Reconstruction] = field(default_factory=list)
    evaluation: EvaluationResult | None = None
    stages: list[Stage] = field(default_factory=list)


@dataclass(frozen=True)
class DemoSummary:
    """Where things are, how long it took, and the commands to look at them."""

    out: Path
    report: Path
    seconds: float
    stages: list[Stage]
    dice: dict[str, float]
    commands: list[tuple[str, str]]


def demo(
    out: Path,
    *,
    quick: bool = False,
    settings: DemoSettings | None = None,
    say: Say | None = None,
) -> DemoSummary:
    """Make synthetic patients and take them through every verb; write OUT/report.html.

    Nothing is downloaded. Held-out patients are never trained on. The same machine gives the same
    numbers again.

    Args:
        out: a folder that does not exist.
        quick: a small run that shows every stage works and learns next to nothing.
        settings: other numbers than those of the full or the quick run.
        say: is told the name of each stage as it begins.

    Raises:
        MedsslError: OUT_EXISTS, and what the verbs raise.
    """
    out = out.resolve()
    if out.exists():
        raise MedsslError(
            "OUT_EXISTS", "The output folder already exists", where=out.name, fix="Give another."
        )
    started = time.perf_counter()
    settings = settings or (QUICK if quick else FULL)
    clock = _Clock(say)
    (out / "stores").mkdir(parents=True)
    (out / "stores" / "demo.key").write_text(_KEY + "\n", encoding="ascii")
    with clock("Draw synthetic patients, write DICOM and NIfTI"):
        gathered = Gathered(settings, make_patients(out / "data", settings))
    with clock("Ingest"):
        _ingest(out, gathered)
    with clock("Pretrain without labels"):
        _pretrain(out, gathered)
    for name in RUNS:
        with clock(f"Fine-tune with {settings.labelled} labelled patients, {name}"):
            _finetune(out, gathered, name)
    with clock("Predict the held-out patients, write DICOM SEG"):
        _predict(out, gathered)
    with clock("Evaluate frozen features"):
        _evaluate(out, gathered)
    from medssl.demo.outcomes import mean_dice

    with clock("Write the report"):
        gathered.stages = clock.stages
        report, commands = _report(out, gathered, started)
    dice = {name: mean_dice(gathered, name) for name in RUNS}
    seconds = time.perf_counter() - started
    return DemoSummary(out, report, seconds, clock.stages, dice, commands)


class _Clock:
    """Announces each stage and keeps its duration."""

    def __init__(self, say: Say | None) -> None:
        self._say = say
        self.stages: list[Stage] = []

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        if self._say:
            self._say(name)
        begun = time.perf_counter()
        yield
        self.stages.append(Stage(name, time.perf_counter() - begun))


def _pseudonyms(out: Path) -> Pseudonymizer:
    from medssl.ingest.pseudonym import Pseudonymizer, load_key

    return Pseudonymizer(load_key(out / "stores" / "demo.key"))


def _contract(bundle: Path) -> InputContract:
    from medssl.bundle import Bundle

    return Bundle.load(bundle).spec.contract


def _ingest(out: Path, gathered: Gathered) -> None:
    from medssl.ingest.run import ingest

    key = out / "stores" / "demo.key"
    sources = {"scans": gathered.patients.dicom, "labelled": gathered.patients.labelled}
    for name, folder in sources.items():
        gathered.ingested[name] = ingest(folder, out / "stores" / name, key_file=key)


def _pretrain(out: Path, gathered: Gathered) -> None:
    from medssl.store.intensity import IntensityContract
    from medssl.training.pretrain import PretrainConfig, pretrain

    settings, patients = gathered.settings, gathered.patients
    config = PretrainConfig(
        method="mae",
        options={"mask_cell": settings.mask_cell},
        encoder="unet",
        encoder_options={"widths": list(settings.widths)},
        patch_size=list(settings.patch),
        # One contract for CT and MR together: each volume by its own mean and deviation.
        intensity=IntensityContract(scheme="zscore"),
        steps=settings.pretrain_steps,
        batch_size=settings.batch_size,
        lr=settings.pretrain_lr,
        log_every=max(1, settings.pretrain_steps // 60),
        checkpoint_every=settings.pretrain_steps,
        preview_every=max(1, settings.pretrain_steps // 3),
        seed=settings.seed,
    )
    names = _pseudonyms(out)
    training = [names.subject(p) for p, split in patients.split.items() if split == "train"]
    gathered.pretrained = pretrain(
        out / "stores" / "scans", out / "pretrain", config, subjects=training, tracking_folder=out
    )
    shown = [p for p in patients.phantoms if patients.split[p.patient_id] == "test"]
    some = {p.modality: p for p in reversed(shown)}
    volumes = [
        volume_of(out / "stores" / "scans", names.subject(p.patient_id)).volume_id
        for p in some.values()
    ]
    gathered.reconstructions = sorted(
        reconstruct(gathered.pretrained, out / "stores" / "scans", volumes),
        key=lambda item: item.modality,
    )


def _finetune(out: Path, gathered: Gathered, name: str) -> None:
    from medssl.finetune.config import FinetuneConfig
    from medssl.finetune.run import finetune

    assert gathered.pretrained is not None
    settings = gathered.settings
    contract = _contract(gathered.pretrained.bundle)
    config = FinetuneConfig(
        encoder="unet",
        encoder_options={"widths": list(settings.widths)},
        patch_size=contract.patch_size,
        intensity=contract.intensity,
        steps=settings.finetune_steps,
        batch_size=settings.batch_size,
        lr=settings.finetune_lr,
        log_every=max(1, settings.finetune_steps // 40),
        checkpoint_every=settings.finetune_steps,
        validate_every=max(1, settings.finetune_steps // settings.validations),
        nsd_tolerance_mm=settings.nsd_tolerance_mm,
        # The held-out patients are measured on what predict writes from their DICOM.
        report=("validation",),
        skip_absent=True,
        seed=settings.seed,
    )
    gathered.finetuned[name] = finetune(
        "segmentation",
        out / "stores" / "labelled",
        out / "finetune" / name,
        config,
        init=gathered.pretrained.bundle if name == "pretrained" else None,
        labels=settings.labelled,
        tracking_folder=out,
    )


def _predict(out: Path, gathered: Gathered) -> None:
    from medssl.phantom.dicom_writer import series_uid
    from medssl.predict.run import predict

    patients, names = gathered.patients, _pseudonyms(out)
    held_out = patients.of("CT", "test")
    case_ids = [names.series(series_uid(phantom)) for phantom in held_out]
    for name in RUNS:
        results = out / "results" / name
        bundle = gathered.finetuned[name].bundle
        key = out / "stores" / "demo.key"
        predict(bundle, patients.held_out, results, key_file=key, device="cpu")
        gathered.predictions[name] = score_predictions(
            results, held_out, case_ids, gathered.settings.nsd_tolerance_mm
        )


def _evaluate(out: Path, gathered: Gathered) -> None:
    from medssl.evaluate.run import evaluate

    assert gathered.pretrained is not None
    tuned = gathered.finetuned["pretrained"]
    split = dict.fromkeys(tuned.train_subjects, "train")
    split |= dict.fromkeys(tuned.test_subjects, "test")
    gathered.evaluation = evaluate(
        gathered.pretrained.bundle,
        out / "stores" / "labelled",
        out=out / "evaluation",
        fractions=(1.0,),
        seeds=1,
        split=split,
        device="cpu",
        tracking_folder=out,
    )


def _report(out: Path, gathered: Gathered, started: float) -> tuple[Path, list[tuple[str, str]]]:
    from medssl.demo.content import commands_of, report_of
    from medssl.drawing.page import render

    commands = commands_of(out)
    page = render(report_of(gathered, out, time.perf_counter() - started, commands))
    path = out / "report.html"
    path.write_text(page, encoding="utf-8")
    return path, commands
