"""Ingest a folder: scan, plan, read, write, account."""

from __future__ import annotations

import platform
from collections.abc import Collection, Iterator, Mapping, Sequence
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from medssl.errors import CODES, Exit, MedsslError
from medssl.ingest.account import Account, IngestSummary
from medssl.ingest.dicom import ALLOWABLE
from medssl.ingest.face import face_notes
from medssl.ingest.isolate import Limits, run_jobs
from medssl.ingest.jobs import Job, Made
from medssl.ingest.plan import Context, plan
from medssl.ingest.pseudonym import Pseudonymizer, load_key
from medssl.ingest.scan import Found, Kind, scan
from medssl.ingest.tables import Tables
from medssl.progress import track
from medssl.store import Outcome, StoreInfo, StoreWriter

PRIVATE_SUFFIX = ".private"
KEY_NAME = "site.key"
_UNPLANNED = {
    Kind.TABLE: (Outcome.IGNORED, "NOT_AN_IMAGE"),
    Kind.OTHER: (Outcome.IGNORED, "NOT_AN_IMAGE"),
    Kind.LINK: (Outcome.IGNORED, "LINK_NOT_FOLLOWED"),
    Kind.BROKEN: (Outcome.REJECTED, "FILE_UNREADABLE"),
    Kind.UNSUPPORTED: (Outcome.REJECTED, "FORMAT_UNSUPPORTED"),
}


def ingest(
    in_path: Path,
    store_path: Path,
    *,
    key_file: Path | None = None,
    label_names: Mapping[int, str] | None = None,
    modality: str = "OT",
    class_folders: bool = False,
    allow: Collection[str] = (),
    workers: int = 1,
    deface: bool = False,
) -> IngestSummary:
    """Read everything below a folder into a new store; what is not certain is refused.

    Every file found gets one ledger row. A file or series that cannot be used never stops the
    others. The store appears whole at the end or not at all. Beside it, ``<STORE>.private`` keeps
    the site key and the ledger with the real paths.

    Args:
        in_path: a folder, or one file.
        store_path: the store to make.
        key_file: the site key; ``<STORE>.private/site.key`` by default, made where missing.
        label_names: names of label map values, over those that tables state.
        modality: DICOM code for files that state none (NIfTI, PNG, .npz).
        class_folders: take the folder of a PNG without a table for its class.
        allow: codes of defects to accept (:data:`medssl.ingest.dicom.ALLOWABLE`); the manifest
            keeps them for each volume that has one.
        workers: how many series are read at once, each in a process of its own with limits on
            time and memory; the store does not depend on it.
        deface: remove faces (:mod:`medssl.ingest.deface`); reject what may have one and cannot.

    Raises:
        MedsslError: CODE_NOT_ALLOWABLE, INPUT_MISSING, STORE_EXISTS, STORE_INSIDE_INPUT,
            KEY_INVALID, TABLE_INVALID (tables that contradict each other), DISK_FULL.
    """
    in_path, store_path = Path(in_path), Path(store_path)
    _check_allow(allow)
    _check_places(in_path, store_path)
    private = store_path.with_name(store_path.name + PRIVATE_SUFFIX)
    found = scan(in_path)
    names = Pseudonymizer(load_key(key_file or private / KEY_NAME))
    tables = Tables.read(found)
    stated = dict(label_names) if label_names is not None else tables.label_names()
    context = Context(names, tables, modality, class_folders, allow, deface)
    account = Account(found, names)
    _mark_unplanned(found, tables, account)
    jobs, rejections = plan(found, context)
    for rejection in rejections:
        outcome = Outcome.IGNORED if rejection.code == "NOT_AN_IMAGE" else Outcome.REJECTED
        account.mark(rejection.files, outcome, rejection.code, rejection.detail)
    with StoreWriter(store_path, StoreInfo(made_by=_made_by(modality))) as writer:
        loader, limits = _Loader(writer, account), Limits.of_this_machine(workers)
        with TemporaryDirectory(prefix=".medssl-", dir=store_path.parent) as scratch:
            made = run_jobs(jobs, Path(scratch), workers, limits)
            for job, results in track(made, "Ingest", total=len(jobs)):
                loader.run(job, results)
        account.write_private(private)
        if loader.volumes:
            writer.set_label_names(_all_label_names(loader.label_values, stated))
            writer.finish(account.rows, len(found))
        else:
            writer.abort()
    return IngestSummary(
        found=len(found),
        volumes=loader.volumes,
        subjects=len(loader.subjects),
        counts=account.counts(),
        notes=_notes(found, context, loader),
        store=store_path if loader.volumes else None,
        private=private,
        incomplete=loader.incomplete or any(d.missing for d in tables.datasets),
    )


def _check_allow(allow: Collection[str]) -> None:
    for code in allow:
        if code not in ALLOWABLE:
            raise MedsslError(
                "CODE_NOT_ALLOWABLE",
                "This defect cannot be accepted",
                where=code if code in CODES else "--allow",
                fix=f"Give one of {', '.join(sorted(ALLOWABLE))}.",
            )


def _check_places(in_path: Path, store_path: Path) -> None:
    if not in_path.exists():
        raise MedsslError("INPUT_MISSING", "The input folder does not exist", where="IN")
    if store_path.exists():
        raise MedsslError(
            "STORE_EXISTS",
            "The store already exists",
            where="STORE",
            fix="Give another name, or move the old store away.",
        )
    if store_path.resolve().is_relative_to(in_path.resolve()):
        raise MedsslError(
            "STORE_INSIDE_INPUT",
            "The store would lie inside the input and be read as input next time",
            where="STORE",
            fix="Put it beside the input folder.",
        )


def _made_by(modality: str) -> dict[str, str]:
    packages = {name: version(name) for name in ("medssl", "pydicom", "nibabel", "numpy")}
    return {"verb": "ingest", "modality": modality, "python": platform.python_version(), **packages}


def _mark_unplanned(found: Sequence[Found], tables: Tables, account: Account) -> None:
    """Rows for tables, and for what is no image."""
    done: set[Path] = set()
    for dataset in tables.datasets:
        detail = f"{dataset.missing} files it names are not there" if dataset.missing else "table"
        account.mark([item.path for item in dataset.used], Outcome.USED, detail=detail)
        for item, error in dataset.refused:
            account.mark([item.path], Outcome.REJECTED, error.code, error.what)
        done.update(item.path for item in dataset.used)
        done.update(item.path for item, _ in dataset.refused)
    for item in found:
        if item.kind in _UNPLANNED and item.path not in done:
            outcome, code = _UNPLANNED[item.kind]
            account.mark([item.path], outcome, code, item.note)


class _Loader:
    """Runs jobs one after the other and keeps the account."""

    def __init__(self, writer: StoreWriter, account: Account) -> None:
        self._writer, self._account = writer, account
        self._seen: dict[str, tuple[str, object]] = {}
        self._ids: set[str] = set()
        self.subjects: set[str] = set()
        self.label_values: set[int] = set()
        self.single_slices = 0
        self.faces: list[str] = []
        self.incomplete = False

    @property
    def volumes(self) -> int:
        """How many volumes were written."""
        return len(self._ids)

    def run(self, job: Job, results: Iterator[Made]) -> None:
        """Write what one job made; its rejections go to the account, the rest is raised."""
        written: list[str] = []
        errors: list[MedsslError] = []
        first: str | None = None
        try:
            for made in results:
                first = self._known(made)
                if first is not None:
                    break
                try:
                    self._write(made)
                    written.append(made.record.volume_id)
                except MedsslError as error:
                    _only_rejection(error)
                    errors.append(error)
        except MedsslError as error:
            _only_rejection(error)
            errors.append(error)
        except MemoryError:
            errors.append(MedsslError("OUT_OF_MEMORY", "It does not fit in memory"))
        except OSError as error:
            errors.append(MedsslError("FILE_UNREADABLE", f"Reading: {type(error).__name__}"))
        self._mark(job, written, errors, first)

    def _known(self, made: Made) -> str | None:
        """The volume that already holds this image, or None.

        Raises:
            MedsslError: DUPLICATE_CONFLICT where it was there for another subject, split or label.
        """
        if made.content in self._seen:
            volume_id, meaning = self._seen[made.content]
            if meaning != _meaning(made):
                raise MedsslError(
                    "DUPLICATE_CONFLICT", "The same voxels are there for another subject or label"
                )
            return volume_id
        if made.record.volume_id in self._ids:
            raise MedsslError("DUPLICATE_CONFLICT", "Another volume has the same pseudonym")
        return None

    def _write(self, made: Made) -> None:
        self._writer.add_volume(
            made.record, made.array, made.affine, made.label, made.pixel_spacing
        )
        self._ids.add(made.record.volume_id)
        self._seen[made.content] = (made.record.volume_id, _meaning(made))
        self.single_slices += made.affine is None and made.record.source == "dicom"
        self.subjects.add(made.record.subject_id)
        self.faces.append(made.record.face)
        if made.label is not None:
            self.label_values.update(int(v) for v in np.unique(made.label))

    def _mark(
        self, job: Job, written: list[str], errors: list[MedsslError], first: str | None
    ) -> None:
        mark = self._account.mark
        if first is not None:
            text = "the same voxels in another file"
            mark([*job.files, *job.duplicates], Outcome.DUPLICATE, "DUPLICATE", text, first)
        elif not written:
            error = errors[0] if errors else MedsslError("VOLUME_EMPTY", "No image in the file")
            mark([*job.files, *job.duplicates], Outcome.REJECTED, error.code, error.what)
        else:
            volume_id = written[0] if len(written) == 1 else ""
            detail = f"{len(written)} images" if len(written) > 1 else ""
            if errors:
                self.incomplete = True
                detail += f"; {len(errors)} refused: {errors[0].what}"
            mark(job.files, Outcome.USED, errors[0].code if errors else "", detail, volume_id)
            text = "the same image in another file"
            mark(job.duplicates, Outcome.DUPLICATE, "DUPLICATE", text, volume_id)


def _meaning(made: Made) -> tuple[object, ...]:
    """What two files with the same voxels must agree on to be duplicates."""
    record = made.record
    label = None if made.label is None else made.label.astype(np.int64).tobytes()
    digest = "" if label is None else sha256(label).hexdigest()
    return record.subject_id, record.split, tuple(sorted(record.labels.items())), digest


def _only_rejection(error: MedsslError) -> None:
    """Let errors through that are not the input's fault: a full disk must stop the run."""
    if error.exit_code is not Exit.SOME_REJECTED:
        raise error


def _all_label_names(values: set[int], stated: Mapping[int, str]) -> dict[int, str]:
    return {value: stated.get(value, f"label {value}") for value in sorted(values - {0})}


def _notes(found: Sequence[Found], context: Context, loader: _Loader) -> list[str]:
    notes = []
    alone = 0
    for item in found:
        if item.kind in (Kind.NIFTI, Kind.PNG):
            dataset = context.tables.of(item.relative)
            alone += dataset is None or not (dataset.has_subjects or dataset.broken)
    if alone:
        notes.append(
            f"No table states the subjects of {alone} files: each image counts as its own "
            "subject, so two images of one patient can end on both sides of a split."
        )
    if any(item.kind is Kind.NPZ for item in found):
        notes.append("An .npz states no subjects: each image counts as its own.")
    columns = sorted(
        {n for d in context.tables.datasets for r in d.rows.values() for n in r.labels}
    )
    if columns:
        notes.append("Label columns taken from tables: " + ", ".join(columns))
    missing = sum(dataset.missing for dataset in context.tables.datasets)
    if missing:
        notes.append(f"{missing} files that tables name are not there.")
    notes += face_notes(loader.faces)
    if loader.volumes == 0:
        notes.append("Nothing could be used; no store was made.")
    return notes
