"""Ingest a folder: scan, plan, read, write, account."""

from __future__ import annotations

import platform
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from medssl.cluster import Cluster
from medssl.errors import MedsslError
from medssl.ingest.account import Account, IngestSummary
from medssl.ingest.burned_in import CODE as TEXT
from medssl.ingest.checks import check_places, check_wishes
from medssl.ingest.earlier import Earlier, series_of
from medssl.ingest.isolate import Limits
from medssl.ingest.load import Loader
from medssl.ingest.make import item_of, make, read_labels_in_a_process, same_in_a_process
from medssl.ingest.notes import notes
from medssl.ingest.plan import Context, Readers, plan
from medssl.ingest.pool import Pool, run_items
from medssl.ingest.profile import deidentification
from medssl.ingest.pseudonym import Pseudonymizer, load_key
from medssl.ingest.quarantine import write_quarantine
from medssl.ingest.scan import Found, Kind, Listed, walk
from medssl.ingest.structures import NameRules
from medssl.ingest.survey import Survey, survey
from medssl.ingest.tables import TABLE_NAMES, Tables
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
    structures: Collection[str] = (),
    workers: int = 1,
    add: bool = False,
    scheduler: str | None = None,
    site: str = "",
    keep: Collection[str] = (),
) -> IngestSummary:
    """Read everything below a folder into a store; what is not certain is refused.

    Every file found gets one ledger row. A file or series that cannot be used never stops the
    others. The store appears whole at the end or not at all. Beside it, ``<STORE>.private`` keeps
    the site key and the ledger with the real paths. An ingest that was interrupted goes on where it
    was when it is started again with the same options.

    Args:
        in_path: a folder, or one file.
        store_path: the store to make.
        key_file: the site key; ``<STORE>.private/site.key`` by default, made where missing.
        label_names: names of label map values, over those that tables state.
        modality: DICOM code for files that state none (NIfTI, PNG, .npz).
        class_folders: take the folder of a PNG without a table for its class.
        allow: codes of defects to accept (:data:`medssl.ingest.dicom.ALLOWABLE`); the manifest
            keeps them for each volume that has one.
        structures: of DICOM SEG and RTSTRUCT, take those of these names alone.
        workers: how many processes read at once, with limits on time and memory; the store does
            not depend on it.
        add: add to the store where there is one. Files that it has accounted for, and that have not
            changed since, are not read again, but for those that were refused and whose series has
            new files. A volume of the store is never changed or replaced.
        scheduler: address of a Dask scheduler whose workers read instead of this machine; they
            must see the same paths.
        site: a plain word for the site of all volumes, instead of a pseudonym of what headers say.
        keep: patient characteristics to keep as labels: "age", "sex".

    Raises:
        MedsslError: CODE_NOT_ALLOWABLE, CONFIG_INVALID, INPUT_MISSING, STORE_EXISTS,
            STORE_INSIDE_INPUT, KEY_INVALID, TABLE_INVALID (tables that contradict each other),
            INGEST_RUNNING, PRIVATE_MISSING, SCHEDULER_UNAVAILABLE, DISK_FULL.
    """
    in_path, store_path = Path(in_path), Path(store_path)
    check_wishes(allow, keep, site)
    check_places(in_path, store_path, add)
    private = store_path.with_name(store_path.name + PRIVATE_SUFFIX)
    names = Pseudonymizer(load_key(key_file or private / KEY_NAME))
    made_by = _made_by(modality)
    options = {
        "made_by": made_by,
        "root": names.path(str(in_path.resolve())),
        "class_folders": class_folders,
        "allow": sorted(allow),
        "site": site,
        "keep": sorted(keep),
        "add": add and store_path.exists(),
    }
    with Unfinished(store_path, options) as work, ExitStack() as stack:
        pool = _pool(workers, scheduler, stack)
        earlier = None
        if options["add"]:
            earlier = Earlier.read(store_path, work.base, private, names)
        listed = walk(in_path)
        seen = _survey(listed, work, earlier, names, allow, pool)
        tables = Tables.read([*seen.found, *_unread(listed, seen)])
        stated = _stated_names(label_names, tables, earlier)
        rules = NameRules.of(stated.values(), structures)
        context = Context(names, tables, modality, class_folders, allow, site, keep, stated, rules)
        account = Account(seen.found, names, earlier.batch if earlier else 1)
        _mark_unplanned(seen, tables, account)
        loader = _load(store_path, made_by, work, earlier, seen, context, account, pool)
        details = {
            path: (item.size, item.modified, series_of(seen.slices[path], names)
                   if path in seen.slices else "")
            for path, item in seen.listed.items()
        }  # fmt: skip
        account.write_private(private, details)
        write_quarantine(private, text := account.rejected(TEXT))
        if loader.added or (earlier and account.rows):
            given = loader.structures | stated
            loader.writer.set_label_names(_all_label_names(loader.label_values, given, earlier))
            loader.writer.set_deidentification(_deidentified(keep, loader, earlier))
            loader.writer.finish(account.rows, len(seen.found))
    return IngestSummary(
        found=len(listed),
        volumes=loader.volumes,
        subjects=len(loader.subjects),
        counts=account.counts(),
        notes=notes(seen.found, tables, loader.volumes, len(text), work.resumed),
        store=store_path if loader.volumes else None,
        private=private,
        incomplete=loader.incomplete or any(d.missing for d in tables.datasets),
        known=len(listed) - len(seen.found),
        added=loader.added,
    )


def _deidentified(keep: Collection[str], loader: Loader, earlier: Earlier | None) -> dict[str, Any]:
    """The record of the de-identification, of what the store had before too."""
    before = earlier.store.info.deidentification if earlier else {}
    kept = {*keep, *before.get("kept", [])}
    return deidentification(kept, burned_in=TEXT in loader.defects)


def _pool(workers: int, scheduler: str | None, stack: ExitStack) -> Pool:
    if scheduler is None:
        return Pool(workers, Limits.of_this_machine(workers))
    cluster = stack.enter_context(Cluster(scheduler))
    return Pool(cluster.cores(), Limits.of_this_machine(workers), cluster)


def _survey(
    listed: Sequence[Listed],
    work: Unfinished,
    earlier: Earlier | None,
    names: Pseudonymizer,
    allow: Collection[str],
    pool: Pool,
) -> Survey:
    """Look at every file, or at those that are new and those that may be whole with them."""
    if earlier is None:
        return survey(listed, work.headers, allow, pool)
    seen = survey(earlier.new(listed), work.headers, allow, pool)
    again = earlier.again(listed, seen.slices, names)
    return seen.beside(survey(again, work.headers, allow, pool)) if again else seen


def _unread(listed: Sequence[Listed], seen: Survey) -> list[Found]:
    """The files that are not read again; their tables still speak for new ones."""
    kinds = {True: Kind.TABLE, False: Kind.OTHER}
    return [
        Found(item.path, item.relative, kinds[item.path.name in TABLE_NAMES])
        for item in listed
        if item.path not in seen.listed
    ]


def _load(
    store_path: Path,
    made_by: dict[str, str],
    work: Unfinished,
    earlier: Earlier | None,
    seen: Survey,
    context: Context,
    account: Account,
    pool: Pool,
) -> Loader:
    """Plan jobs, run them, and take over what they make."""
    readers = Readers(
        partial(same_in_a_process, work.volumes / "same", pool),
        partial(read_labels_in_a_process, work.volumes / "labels", pool, seen),
    )
    jobs, rejections = plan(seen.found, seen.slices, context, readers)
    for rejection in rejections:
        account.mark(rejection.files, rejection.outcome, rejection.code, rejection.detail)
    base, info = None, StoreInfo(made_by=made_by)
    if earlier is not None:
        base = earlier.store
        added_by = [*base.info.added_by, {"batch": earlier.batch, **made_by}]
        info = base.info.model_copy(update={"added_by": added_by})
    writer = StoreWriter(store_path, info, work.store, base)
    loader = Loader(writer, account, context, work.volumes, base.rows() if base else ())
    items = [item_of(job, seen) for job in jobs]
    done = run_items(make, items, work.volumes, pool)
    for item, answer in track(done, "Ingest", total=len(items)):
        loader.run(item.payload[1], answer)
    again = [item_of(job, seen) for job in loader.again]
    for item, answer in run_items(make, again, work.volumes, pool):
        loader.run(item.payload[1], answer)
    return loader


def _made_by(modality: str) -> dict[str, str]:
    packages = {name: version(name) for name in ("medssl", "pydicom", "nibabel", "numpy")}
    return {"verb": "ingest", "modality": modality, "python": platform.python_version(), **packages}


def _mark_unplanned(seen: Survey, tables: Tables, account: Account) -> None:
    """Rows for tables, and for what is no image."""
    done: set[Path] = set()
    for dataset in tables.datasets:
        detail = f"{dataset.missing} files it names are not there" if dataset.missing else "table"
        used = [item.path for item in dataset.used if item.path in seen.listed]
        account.mark(used, Outcome.USED, detail=detail)
        done.update(used)
        for item, error in dataset.refused:
            if item.path in seen.listed:
                account.mark([item.path], Outcome.REJECTED, error.code, error.what)
                done.add(item.path)
    for item in seen.found:
        if item.kind in _UNPLANNED and item.path not in done:
            outcome, code = _UNPLANNED[item.kind]
            account.mark([item.path], outcome, code, item.note)


def _stated_names(
    label_names: Mapping[int, str] | None, tables: Tables, earlier: Earlier | None
) -> dict[int, str]:
    """Names of label values: those of the store that is added to, and the user's or the tables'."""
    before = {} if earlier is None else earlier.store.info.label_names
    return {**before, **(tables.label_names() if label_names is None else label_names)}


def _all_label_names(
    values: set[int], stated: Mapping[int, str], earlier: Earlier | None
) -> dict[int, str]:
    """Names of the values that occur; a store keeps those it has.

    Raises:
        MedsslError: TABLE_INVALID where a name would change.
    """
    names = {} if earlier is None else dict(earlier.store.info.label_names)
    for value in sorted(values - {0}):
        name = stated.get(value, names.get(value, f"label {value}"))
        if names.setdefault(value, name) != name:
            raise MedsslError(
                "TABLE_INVALID",
                f"The store has another name for label {value}",
                fix="State the store's name with --label-name, or make another store.",
            )
    return dict(sorted(names.items()))
