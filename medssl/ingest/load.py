"""What workers made becomes part of the store, job after job, or a row of the account."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from medssl.errors import Exit, MedsslError
from medssl.ingest.account import Account
from medssl.ingest.completeness import Extent
from medssl.ingest.facts import retained, with_patient
from medssl.ingest.jobs import Job
from medssl.ingest.journal import Answer
from medssl.ingest.plan import Context
from medssl.ingest.rejection import Rejection
from medssl.ingest.scan import Kind
from medssl.store import Outcome, StoreWriter, VolumeRecord
from medssl.store.records import LABEL_PREFIX
from medssl.store.written import Written

Meaning = tuple[object, ...]
_SOURCES = {Kind.NIFTI_PAIR: Kind.NIFTI.value}


class Loader:
    """Takes over the arrays of jobs, in order, and keeps the account.

    Args:
        writer: of the store.
        account: of the files.
        context: how volumes are named.
        folder: where workers leave their arrays.
        before: rows of the manifest that is added to.
    """

    def __init__(
        self,
        writer: StoreWriter,
        account: Account,
        context: Context,
        folder: Path,
        before: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        self.writer, self._account = writer, account
        self._context, self._folder = context, folder
        self._seen: dict[str, tuple[str, Meaning]] = {}
        self._ids: set[str] = set()
        self._series: set[str] = set()
        self.subjects: set[str] = set()
        self.defects: set[str] = set()
        self.faces: list[str] = []
        self.rejections: list[Rejection] = []
        self.label_values: set[int] = set()
        self.structures: dict[int, str] = {}
        self.again: list[Job] = []
        self.extents: list[Extent] = []
        self.incomplete = False
        self.added = 0
        for row in before:
            self._ids.add(row["volume_id"])
            self._seen[row["content"] + row["part"]] = (row["volume_id"], _meaning_of_row(row))
            self._series.add(row["series_id"])
            self.subjects.add(row["subject_id"])
            self.defects.update(row["defects"])
            self.faces.append(row["face"])

    @property
    def volumes(self) -> int:
        """How many volumes the store has."""
        return len(self._ids)

    def run(self, job: Job, answer: Answer) -> None:
        """Take over what one job made; its rejections go to the account.

        Raises:
            MedsslError: DISK_FULL, STORE_INVALID.
        """
        value = answer.value or {"made": [], "error": answer.error}
        ended = [] if value["error"] is None else [MedsslError(*value["error"])]
        taken: list[str] = []
        known: list[str] = []
        errors: list[MedsslError] = []
        fates: dict[str, tuple[str, str, str]] = {}
        if job.drawing is not None and [e.code for e in ended] == ["READER_FAILED"]:
            # It may be the label objects' fault: once more, without them.
            self.again.append(replace(job, drawing=None))
            self._account.mark(job.drawing.paths, Outcome.REJECTED, ended[0].code, ended[0].what)
            return
        for number, entry in enumerate(value["made"]):
            if "error" in entry:
                errors.append(MedsslError(*entry["error"]))
                continue
            written = Written(**entry["written"])
            try:
                name, new = self._take(job, number, entry, written)
                (taken if new else known).append(name)
                fates |= {path: (*fate, name) for path, fate in entry["fates"].items()}
            except MedsslError as error:
                _only_rejection(error)
                errors.append(error)
        self._mark(job, taken, known, [*errors, *ended])
        if job.drawing is not None:
            first = known[0] if known and not taken and not errors else None
            self._account.mark_labels(job.drawing.paths, fates, first)

    def _take(
        self, job: Job, number: int, entry: Mapping[str, Any], written: Written
    ) -> tuple[str, bool]:
        """Take over one volume, if it is new; its name, or that of the volume it repeats.

        Raises:
            MedsslError: DUPLICATE_CONFLICT where it was there for another subject, split or label.
        """
        record = record_of(job, number, entry, self._context)
        # Two times of one series may hold the same voxels and are still two volumes.
        content = entry["content"] + record.part
        meaning = _meaning(record, written)
        if content in self._seen:
            self._drop(written)
            name, other = self._seen[content]
            if meaning != other:
                text = "The same voxels are there for another subject or label"
                raise MedsslError("DUPLICATE_CONFLICT", text)
            return name, False
        if record.volume_id in self._ids or record.series_id in self._series:
            self._drop(written)
            text = "The store has another volume of this series, or of its pseudonym"
            raise MedsslError("DUPLICATE_CONFLICT", text)
        self.writer.take(record, written, self._folder)
        self.added += 1
        if self._context.before and job.kind is Kind.DICOM:
            extent = Extent.of(job.volumes[number], self._context.names)
            self.extents += [] if extent is None else [extent]
        self._ids.add(record.volume_id)
        self._seen[content] = (record.volume_id, meaning)
        self.subjects.add(record.subject_id)
        self.defects.update(record.defects)
        self.faces.append(record.face)
        self.label_values.update(written.label_values)
        self.label_values.update(record.labelled)
        self.structures |= {value: name for name, value in entry["structures"].items()}
        return record.volume_id, True

    def _drop(self, written: Written) -> None:
        for name in (written.array, written.label):
            if name:
                (self._folder / name).unlink(missing_ok=True)

    def _mark(
        self, job: Job, taken: list[str], known: list[str], errors: list[MedsslError]
    ) -> None:
        mark, everything = self._account.mark, [*job.files, *job.duplicates]
        if taken:
            volume_id = taken[0] if len(taken) == 1 else ""
            detail = f"{len(taken)} images" if len(taken) > 1 else ""
            if errors:
                self.incomplete = True
                detail += f"; {len(errors)} refused: {errors[0].what}"
            # An archive's images are no patients to go back to, and there are thousands.
            volumes = () if job.kind is Kind.NPZ else taken
            code = errors[0].code if errors else ""
            mark(job.files, Outcome.USED, code, detail, volume_id, volumes)
            text = "the same image in another file"
            mark(job.duplicates, Outcome.DUPLICATE, "DUPLICATE", text, volume_id, volumes)
        elif known and not errors:
            text = "the same voxels in another file"
            mark(everything, Outcome.DUPLICATE, "DUPLICATE", text, known[0])
        else:
            error = errors[0] if errors else MedsslError("VOLUME_EMPTY", "No image in the file")
            mark(everything, Outcome.REJECTED, error.code, error.what)
            self.rejections.append(Rejection(everything, error.code, error.what))


def record_of(job: Job, number: int, entry: Mapping[str, Any], context: Context) -> VolumeRecord:
    """The pseudonyms and labels of what a job made.

    Args:
        job: the job.
        number: which of its images.
        entry: what the worker says of it.
        context: names and what the user stated.
    """
    names, row = context.names, job.row
    if job.kind is Kind.DICOM:
        volume = job.volumes[number]
        key = f"{volume.series_uid} {volume.part}" if volume.part else volume.series_uid
        return VolumeRecord(
            volume_id=names.volume(key),
            subject_id=names.subject(volume.patient_id),
            study_id=names.study(volume.study_uid),
            series_id=names.series(volume.series_uid),
            modality=volume.modality,
            split=row.split,
            labels=with_patient(row.labels, volume.facts, context.options.keep),
            defects=[*volume.defects, *entry["defects"]],
            source="dicom",
            part=volume.part,
            content=entry["content"],
            **retained(volume.facts, volume.patient_id, names, context.options.site),
            labelled=sorted(entry["structures"].values()),
            frame_id=names.frame(volume.headers[0].frame_uid),
            face=entry["face"],
            deface=entry["deface"],
            **volume.provenance,
        )
    content, part = entry["content"], entry["part"]
    whole = entry["whole"] or content
    # An archive states no geometry.
    archived = job.kind is Kind.NPZ and entry["written"]["columns"]["dims"] == 3
    # Without a table each file is its own subject; by content, so that a copy is the same one.
    subject = row.subject if row.subject is not None else f"image:{whole}"
    return VolumeRecord(
        volume_id=names.volume(f"{content} {whole} {part}" if part else content),
        subject_id=names.subject(subject),
        study_id=names.study(row.study or whole),
        series_id=names.series(whole),
        modality=row.modality or context.options.modality,
        split=entry["split"] or row.split,
        labels={**row.labels, **entry["labels"]},
        defects=["AFFINE_INVALID"] if archived else entry["defects"],
        site=context.options.site,
        source=_SOURCES.get(job.kind, job.kind.value),
        part=part,
        content=content,
        # What is there was looked for, whatever a table forgets.
        labelled=sorted({*job.labelled, *entry["written"]["label_values"]} if job.labelled else ()),
        face=entry["face"],
        deface=entry["deface"],
    )


def _meaning(record: VolumeRecord, written: Written) -> Meaning:
    """What two files with the same voxels must agree on to be duplicates."""
    labels = tuple(sorted((n, v) for n, v in record.labels.items() if v is not None))
    label_map = written.columns["label_sha256"], tuple(record.labelled)
    return record.subject_id, record.split, labels, label_map


def _meaning_of_row(row: Mapping[str, Any]) -> Meaning:
    labels = {
        name.removeprefix(LABEL_PREFIX): value
        for name, value in row.items()
        if name.startswith(LABEL_PREFIX) and value is not None
    }
    label_map = row["label_sha256"], tuple(row["labelled"])
    return row["subject_id"], row["split"], tuple(sorted(labels.items())), label_map


def _only_rejection(error: MedsslError) -> None:
    """Let errors through that are not the input's fault: a full disk must stop the run."""
    if error.exit_code is not Exit.SOME_REJECTED:
        raise error
