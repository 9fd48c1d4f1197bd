"""`medssl predict`: every study below IN through a task bundle, into one results folder."""

from __future__ import annotations

import csv
import errno
import io
import logging
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from medssl.bundle import Bundle, BundleSpec, TargetSpec
from medssl.errors import Exit, MedsslError
from medssl.evaluate.inference import resolve_device
from medssl.ingest.pseudonym import Pseudonymizer, load_key, write_private
from medssl.ingest.run import KEY_NAME, PRIVATE_SUFFIX
from medssl.ingest.scan import Kind, scan
from medssl.predict.cases import Case, Finding, check_modality, find_cases
from medssl.predict.results import (
    CASES,
    PREDICTIONS,
    CaseOutcome,
    PredictSummary,
    StatusFile,
    case_folder,
    exit_code_of,
    prepare_out,
    write_atomically,
)
from medssl.predict.segmentation import class_names, write_case
from medssl.predict.sliding import classify_image, measure_image, segment_image
from medssl.progress import track

if TYPE_CHECKING:
    import torch
    from torch import nn

_LOG = logging.getLogger(__name__)
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def predict(
    bundle_path: Path,
    in_path: Path,
    out_path: Path,
    *,
    key_file: Path | None = None,
    device: str = "auto",
    keep_images: bool = True,
) -> PredictSummary:
    """Run a bundle over every DICOM series and NIfTI image below a folder.

    A segmentation bundle writes one folder per case: ``segmentation.nii.gz`` on the input's own
    grid, ``segmentation.dcm`` (DICOM SEG) for a DICOM series in which anything was found (a
    series without what a SEG must repeat, such as the frame of reference, gets the NIfTI alone,
    with SEG_NOT_WRITTEN), ``image.nii.gz`` for review, ``case.json``. All label maps are
    read back and compared before the folder gets its name. A classification or regression bundle
    writes ``predictions.csv``, and takes PNG too. A case that is refused or fails does not stop the
    others. ``status.json`` says what became of each.

    Args:
        bundle_path: a segmentation, classification or regression bundle.
        in_path: a folder, or one file.
        out_path: the results folder, new or empty.
        key_file: the site key that names DICOM cases; ``<OUT>.private/site.key`` by default, made
            where missing. ``<OUT>.private/cases.csv`` says which file each case was.
        device: "auto", "cpu", "cuda", "cuda:1", ...
        keep_images: write ``image.nii.gz``.

    Raises:
        MedsslError: before anything is written, INPUT_MISSING, OUT_EXISTS, BUNDLE_*, KEY_INVALID,
            DEVICE_MISSING, CONTRACT_MISMATCH (an encoder bundle); later, DISK_FULL.
    """
    in_path, out_path = Path(in_path), Path(out_path)
    bundle = _task_bundle(Path(bundle_path))
    spec = bundle.spec
    place = resolve_device(device)
    model = bundle.model().to(place)
    found = scan(in_path)
    prepare_out(out_path)
    private = out_path.with_name(out_path.name + PRIVATE_SUFFIX)
    key = b"\0" * 32  # names nothing: there is no DICOM series
    if key_file is not None or any(item.kind is Kind.DICOM for item in found):
        key = load_key(key_file or private / KEY_NAME)
    status = StatusFile(out_path, spec.kind, spec.weights_sha256)
    status.running()
    outcomes: list[CaseOutcome] = []
    try:
        finding = find_cases(
            found,
            Pseudonymizer(key),
            two_dimensional=spec.contract.dims == 2,
            pictures=spec.kind != "segmentation" and spec.contract.dims == 2,
        )
        _write_private_list(private, finding, in_path)
        runner = _Runner(model, spec, place, out_path, keep_images)
        for refusal in finding.refusals:
            outcomes.append(CaseOutcome(refusal.case_id, "rejected", refusal.code, refusal.detail))
        for case in track(finding.cases, "Predict"):
            outcomes.append(runner.run(case))
        runner.finish()
    except BaseException as error:
        full = isinstance(error, OSError) and error.errno in _DISK_FULL
        status.failed(
            Exit.OUT_OF_RESOURCES if full else getattr(error, "exit_code", Exit.BUG), outcomes
        )
        if full:
            raise MedsslError("DISK_FULL", "The results cannot grow", where="OUT") from None
        raise
    summary = PredictSummary(spec.kind, exit_code_of(outcomes), outcomes, finding.ignored, out_path)
    status.ended(summary)
    return summary


def _task_bundle(path: Path) -> Bundle:
    bundle = Bundle.load(path)
    if bundle.spec.kind == "encoder":
        raise MedsslError(
            "CONTRACT_MISMATCH",
            "An encoder bundle has no task to predict",
            where="BUNDLE",
            fix="Fine-tune it first: medssl finetune segmentation STORE OUT --init BUNDLE.",
        )
    return bundle


class _Runner:
    """Predicts case after case with one model."""

    def __init__(
        self,
        model: nn.Module,
        spec: BundleSpec,
        device: torch.device,
        out: Path,
        keep_images: bool,
    ) -> None:
        self._model, self._spec, self._device = model, spec, device
        self._out, self._keep_images = out, keep_images
        self._rows: list[dict[str, str]] = []

    def run(self, case: Case) -> CaseOutcome:
        """Predict one case; every failure but a full disk is the case's own."""
        try:
            check_modality(case.modality, self._spec.contract.modalities)
            if self._spec.kind == "segmentation":
                return self._segment(case)
            if self._spec.target is not None:
                return self._measure(case, self._spec.target)
            return self._classify(case)
        except MedsslError as error:
            detail = f"{error.what} ({error.where})" if error.where else error.what
            return CaseOutcome(case.case_id, "rejected", error.code, detail)
        except MemoryError:
            return self._too_large(case)
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _DISK_FULL:
                raise
            if type(error).__name__ == "OutOfMemoryError":  # of the GPU
                return self._too_large(case)
            # Messages can quote a header; the kind and the place cannot.
            last = traceback.extract_tb(error.__traceback__)[-1]
            detail = f"{type(error).__name__} in {Path(last.filename).name}:{last.lineno}"
            _LOG.error("CASE_FAILED: %s: %s", case.case_id, detail)
            return CaseOutcome(case.case_id, "rejected", "CASE_FAILED", detail)

    def finish(self) -> None:
        """Write what all cases share."""
        if self._spec.kind != "segmentation":
            names = ["case_id", "source", "modality", "predicted", *self._probability_columns()]
            text = io.StringIO()
            writer = csv.DictWriter(text, names, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self._rows)
            write_atomically(self._out / PREDICTIONS, text.getvalue())

    def _segment(self, case: Case) -> CaseOutcome:
        image = case.load()
        labels = segment_image(self._model, image, self._spec.contract, self._device)
        with case_folder(self._out, case.case_id) as folder:
            reason = write_case(folder, case, image, labels, self._spec, self._keep_images)
            names = sorted(path.name for path in folder.iterdir())
        files = [f"{CASES}/{case.case_id}/{name}" for name in names]
        if reason:
            return CaseOutcome(case.case_id, "written", "SEG_NOT_WRITTEN", reason, files)
        detail = "" if labels.any() else "no voxel was labelled"
        return CaseOutcome(case.case_id, "written", detail=detail, files=files)

    def _classify(self, case: Case) -> CaseOutcome:
        image = case.load()
        probabilities = classify_image(self._model, image, self._spec.contract, self._device)
        classes = class_names(self._spec)
        shares = [f"{float(value):.6f}" for value in probabilities]
        more = dict(zip(self._probability_columns(), shares, strict=True))
        return self._tabled(case, classes[int(probabilities.argmax())], more)

    def _measure(self, case: Case, target: TargetSpec) -> CaseOutcome:
        output = measure_image(self._model, case.load(), self._spec.contract, self._device)
        return self._tabled(case, f"{target.in_units(output):.6g}", {})

    def _tabled(self, case: Case, predicted: str, more: dict[str, str]) -> CaseOutcome:
        """Put a case into the table that :meth:`finish` writes."""
        row = {"case_id": case.case_id, "source": case.source, "modality": case.modality}
        self._rows.append({**row, "predicted": predicted, **more})
        return CaseOutcome(case.case_id, "written", files=[PREDICTIONS])

    def _probability_columns(self) -> list[str]:
        if self._spec.kind == "regression":
            return []
        return [f"p_{name}" for name in class_names(self._spec)]

    @staticmethod
    def _too_large(case: Case) -> CaseOutcome:
        return CaseOutcome(case.case_id, "rejected", "OUT_OF_MEMORY", "The case does not fit")


def _write_private_list(private: Path, finding: Finding, in_path: Path) -> None:
    """Which file each case was, for the site's own eyes: paths can identify."""
    items = [(case.case_id, case.files[0]) for case in finding.cases]
    items += [(refusal.case_id, refusal.files[0]) for refusal in finding.refusals]
    private.mkdir(mode=0o700, parents=True, exist_ok=True)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case_id", "first_file"])
    root = in_path.resolve()
    for case_id, path in items:
        inside = path.is_relative_to(root) and path != root
        writer.writerow([case_id, path.relative_to(root).as_posix() if inside else path.name])
    write_private(private / "cases.csv", text.getvalue())
