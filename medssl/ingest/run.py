"""Ingest a folder: scan, plan, read, write, account."""

from __future__ import annotations

import platform
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

from medssl.errors import CODES, MedsslError
from medssl.ingest.account import Account, IngestSummary
from medssl.ingest.dicom import ALLOWABLE, same_pixels
from medssl.ingest.headers import SliceHeader
from medssl.ingest.isolate import Limits, run_items
from medssl.ingest.jobs import Job
from medssl.ingest.journal import Item
from medssl.ingest.load import Loader
from medssl.ingest.make import make
from medssl.ingest.plan import Context, plan
from medssl.ingest.pseudonym import Pseudonymizer, load_key
from medssl.ingest.scan import Found, Kind
from medssl.ingest.survey import survey
from medssl.ingest.tables import Tables
from medssl.ingest.unfinished import Unfinished
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

    Raises:
        MedsslError: CODE_NOT_ALLOWABLE, INPUT_MISSING, STORE_EXISTS, STORE_INSIDE_INPUT,
            KEY_INVALID, TABLE_INVALID (tables that contradict each other), DISK_FULL.
    """
    in_path, store_path = Path(in_path), Path(store_path)
    _check_allow(allow)
    _check_places(in_path, store_path)
    private = store_path.with_name(store_path.name + PRIVATE_SUFFIX)
    names = Pseudonymizer(load_key(key_file or private / KEY_NAME))
    limits = Limits.of_this_machine(workers)
    made_by = _made_by(modality)
    options = {
        "made_by": made_by,
        "root": names.path(str(in_path.resolve())),
        "class_folders": class_folders,
        "allow": sorted(allow),
    }
    with Unfinished(store_path, options) as work:
        seen = survey(in_path, work.headers, allow=allow, workers=workers, limits=limits)
        tables = Tables.read(seen.found)
        stated = dict(label_names) if label_names is not None else tables.label_names()
        context = Context(names, tables, modality, class_folders, allow)
        account = Account(seen.found, names)
        _mark_unplanned(seen.found, tables, account)
        same = partial(_same_pixels, work.volumes / "same", limits)
        jobs, rejections = plan(seen.found, seen.slices, context, same)
        for rejection in rejections:
            outcome = Outcome.IGNORED if rejection.code == "NOT_AN_IMAGE" else Outcome.REJECTED
            account.mark(rejection.files, outcome, rejection.code, rejection.detail)
        writer = StoreWriter(store_path, StoreInfo(made_by=made_by), work.store)
        loader = Loader(writer, account, context, work.volumes)
        items = [_item(job, seen.keys) for job in jobs]
        done = run_items(make, items, work.volumes, workers, limits)
        for item, answer in track(done, "Ingest", total=len(items)):
            loader.run(item.payload[1], answer)
        account.write_private(private)
        if loader.volumes:
            writer.set_label_names(_all_label_names(loader.label_values, stated))
            writer.finish(account.rows, len(seen.found))
    return IngestSummary(
        found=len(seen.found),
        volumes=loader.volumes,
        subjects=len(loader.subjects),
        counts=account.counts(),
        notes=_notes(seen.found, context, loader, work.resumed),
        store=store_path if loader.volumes else None,
        private=private,
        incomplete=loader.incomplete or any(d.missing for d in tables.datasets),
    )


def _item(job: Job, keys: Mapping[Path, str]) -> Item:
    """A job as work, known by its files and what is made of them."""
    text = "|".join([job.kind, *(keys[path] for path in job.files)])
    for volume in job.volumes:
        slices = ",".join(f"{keys[h.path]}:{h.frame}:{h.tile}" for h in volume.headers)
        text += f"|{volume.part}|{slices}|{volume.affine}"
    key = sha256(text.encode()).hexdigest()[:32]
    return Item(key, (key, job), len(job.files))


def _same_pixels(folder: Path, limits: Limits, one: SliceHeader, two: SliceHeader) -> bool:
    """Compare two slices in a process of its own.

    Raises:
        MedsslError: what reading them raises.
    """
    status = [(path.stat().st_size, path.stat().st_mtime_ns) for path in (one.path, two.path)]
    text = f"{one.sop_uid} {one.frame} {one.tile} {one.path} {two.path} {status}"
    key = sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
    item = Item(key, (one, two), 2)
    ((_, answer),) = run_items(_compare, [item], folder, 1, limits)
    if answer.error is not None:
        raise MedsslError(*answer.error)
    return bool(answer.value)


def _compare(pair: tuple[SliceHeader, SliceHeader], folder: Path) -> bool:
    return same_pixels(*pair)


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


def _all_label_names(values: set[int], stated: Mapping[int, str]) -> dict[int, str]:
    return {value: stated.get(value, f"label {value}") for value in sorted(values - {0})}


def _notes(found: Sequence[Found], context: Context, loader: Loader, resumed: bool) -> list[str]:
    notes = ["Went on where an interrupted ingest had stopped."] if resumed else []
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
    if loader.volumes == 0:
        notes.append("Nothing could be used; no store was made.")
    return notes
