"""Everything that lies below IN: files, members of archives, and what tables say of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medssl.ingest.account import Account
from medssl.ingest.archives import open_archives
from medssl.ingest.bids import with_bids
from medssl.ingest.detached import attach
from medssl.ingest.dicomdir import Directory, read_directories
from medssl.ingest.rejection import Rejection
from medssl.ingest.scan import ARCHIVES, IMAGE_KINDS, Found, Kind, Listed
from medssl.ingest.survey import Survey
from medssl.ingest.tables import Tables
from medssl.store import Outcome

_UNPLANNED = {
    Kind.TABLE: (Outcome.IGNORED, "NOT_AN_IMAGE"),
    Kind.OTHER: (Outcome.IGNORED, "NOT_AN_IMAGE"),
    Kind.LINK: (Outcome.IGNORED, "LINK_NOT_FOLLOWED"),
    Kind.BROKEN: (Outcome.REJECTED, "FILE_UNREADABLE"),
    Kind.UNSUPPORTED: (Outcome.REJECTED, "FORMAT_UNSUPPORTED"),
}


@dataclass(frozen=True)
class Inputs:
    """What there is to read.

    Attributes:
        seen: every file, and every member of an archive.
        tables: what tables and BIDS names say.
        data: relative path of a header to that of the file with its voxels.
        members: how many members each archive has.
        directories: the DICOMDIRs.
        rejections: archives and headers that cannot be used.
    """

    seen: Survey
    tables: Tables
    data: dict[str, str]
    members: dict[Path, int]
    directories: list[Directory]
    rejections: list[Rejection]

    @property
    def missing(self) -> int:
        """How many files are named by a table or a DICOMDIR and are not there."""
        tables = sum(dataset.missing for dataset in self.tables.datasets)
        return tables + sum(directory.missing for directory in self.directories)


def gather(
    seen: Survey,
    unread: Sequence[Found],
    look: Callable[[Sequence[Listed]], Survey],
    folder: Path,
) -> Inputs:
    """Open archives, and read what files say of other files.

    Args:
        seen: the files below IN.
        unread: those that are not read again; their tables still speak for new ones.
        look: looks at more files.
        folder: for the members of archives, to be removed when all is read.

    Raises:
        MedsslError: DISK_FULL.
    """
    archives = [seen.listed[item.path] for item in seen.found if item.kind in ARCHIVES]
    opened = open_archives(archives, folder)
    if opened.listed:
        inside = look(opened.listed)
        seen = seen.beside(replace(inside, found=[_not_again(item) for item in inside.found]))
    attached = attach(seen.found)
    everything = [*attached.found, *unread]
    return Inputs(
        seen=replace(seen, found=attached.found),
        tables=with_bids(Tables.read(everything), everything),
        data=attached.data,
        members=opened.members,
        directories=read_directories(everything),
        rejections=[*opened.rejections, *attached.rejections],
    )


def _not_again(member: Found) -> Found:
    if member.kind not in ARCHIVES:
        return member
    return replace(member, kind=Kind.UNSUPPORTED, note="an archive inside an archive")


def mark_unplanned(inputs: Inputs, account: Account) -> None:
    """Rows for archives, tables and DICOMDIRs, what cannot be used, and what is no image."""
    for path, count in inputs.members.items():
        account.mark([path], Outcome.USED, detail=f"archive of {count} files")
    for rejection in inputs.rejections:
        account.mark(rejection.files, Outcome.REJECTED, rejection.code, rejection.detail)
    for directory in inputs.directories:
        path, error = directory.item.path, directory.error
        if error is not None:
            account.mark([path], Outcome.REJECTED, error.code, error.what)
        else:
            account.mark([path], Outcome.USED, detail=_index(directory))
    done = _mark_tables(inputs, account)
    sidecars = {name for dataset in inputs.tables.datasets for name in dataset.sidecars}
    for item in inputs.seen.found:
        if item.relative in sidecars and item.path not in done:
            account.mark([item.path], Outcome.IGNORED, "NOT_AN_IMAGE", "BIDS sidecar, not read")
        elif item.kind in _UNPLANNED and item.path not in done:
            outcome, code = _UNPLANNED[item.kind]
            account.mark([item.path], outcome, code, item.note)


def _mark_tables(inputs: Inputs, account: Account) -> set[Path]:
    done: set[Path] = set()
    for dataset in inputs.tables.datasets:
        detail = f"{dataset.missing} files it names are not there" if dataset.missing else "table"
        used = [item.path for item in dataset.used if item.path in inputs.seen.listed]
        account.mark(used, Outcome.USED, detail=detail)
        done.update(used)
        for item, error in dataset.refused:
            if item.path in inputs.seen.listed:
                account.mark([item.path], Outcome.REJECTED, error.code, error.what)
                done.add(item.path)
    return done


def _index(directory: Directory) -> str:
    absent = f", {directory.missing} of them not there" if directory.missing else ""
    return f"names {directory.named} files{absent}"


def notes_on(inputs: Inputs, text: int = 0) -> list[str]:
    """What the user should know of the input, free of identifiers.

    Args:
        inputs: what there was to read.
        text: how many files were refused for burned-in text.
    """
    notes = []
    if text:
        notes.append(
            f"{text} files seem to hold burned-in text. STORE.private/quarantine lists them: look "
            "at them, and accept harmless ones with --allow BURNED_IN_TEXT."
        )
    alone = 0
    for item in inputs.seen.found:
        if item.kind in IMAGE_KINDS:
            dataset = inputs.tables.of(item.relative)
            alone += dataset is None or not (dataset.has_subjects or dataset.broken)
    if alone:
        notes.append(
            f"No table states the subjects of {alone} files: each image counts as its own "
            "subject, so two images of one patient can end on both sides of a split."
        )
    if any(item.kind is Kind.NPZ for item in inputs.seen.found):
        notes.append("An .npz states no subjects: each image counts as its own.")
    datasets = inputs.tables.datasets
    columns = sorted({n for d in datasets for r in d.rows.values() for n in r.labels})
    if columns:
        notes.append("Label columns taken from tables: " + ", ".join(columns))
    missing = sum(dataset.missing for dataset in datasets)
    if missing:
        notes.append(f"{missing} files that tables name are not there.")
    absent = sum(directory.missing for directory in inputs.directories)
    if absent:
        notes.append(f"{absent} files that a DICOMDIR names are not there.")
    return notes + [remark for dataset in datasets for remark in dataset.remarks]
