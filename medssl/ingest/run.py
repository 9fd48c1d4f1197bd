"""Ingest a folder: scan, plan, read, write, account."""

from __future__ import annotations

import platform
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from importlib.metadata import version
from pathlib import Path

from medssl.cluster import Cluster
from medssl.errors import CODES, MedsslError
from medssl.ingest.account import Account, IngestSummary
from medssl.ingest.bids import DESCRIPTION
from medssl.ingest.dicom import ALLOWABLE
from medssl.ingest.earlier import Earlier, series_of
from medssl.ingest.inputs import gather, mark_unplanned, notes_on
from medssl.ingest.isolate import Limits
from medssl.ingest.load import Loader
from medssl.ingest.make import item_of, make, read_labels_in_a_process, same_in_a_process
from medssl.ingest.plan import Context, Readers, plan
from medssl.ingest.pool import Pool, run_items
from medssl.ingest.pseudonym import Pseudonymizer, load_key
from medssl.ingest.report import page_or_note
from medssl.ingest.scan import Found, Kind, Listed, walk
from medssl.ingest.structures import NameRules
from medssl.ingest.survey import Survey, survey
from medssl.ingest.tables import TABLE_NAMES, Tables
from medssl.ingest.unfinished import Unfinished
from medssl.progress import track
from medssl.store import PAGE_NAME, Store, StoreInfo, StoreWriter

PRIVATE_SUFFIX = ".private"
KEY_NAME = "site.key"
_RESUMED = "Went on where an interrupted ingest had stopped."


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
        modality: DICOM code for files that state none (NIfTI, PNG, .npz, ...).
        class_folders: take the folder of a picture without a table for its class.
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

    Raises:
        MedsslError: CODE_NOT_ALLOWABLE, INPUT_MISSING, STORE_EXISTS, STORE_INSIDE_INPUT,
            KEY_INVALID, TABLE_INVALID (tables that contradict each other), INGEST_RUNNING,
            PRIVATE_MISSING, SCHEDULER_UNAVAILABLE, DISK_FULL.
    """
    in_path, store_path = Path(in_path), Path(store_path)
    _check_allow(allow)
    _check_places(in_path, store_path, add)
    private = store_path.with_name(store_path.name + PRIVATE_SUFFIX)
    names = Pseudonymizer(load_key(key_file or private / KEY_NAME))
    made_by = _made_by(modality)
    options = {
        "made_by": made_by,
        "root": names.path(str(in_path.resolve())),
        "class_folders": class_folders,
        "allow": sorted(allow),
        "add": add and store_path.exists(),
    }
    with Unfinished(store_path, options) as work, ExitStack() as stack:
        pool = _pool(workers, scheduler, stack)
        earlier = None
        if options["add"]:
            earlier = Earlier.read(store_path, work.base, private, names)
        listed = walk(in_path)
        seen = _survey(listed, work, earlier, names, allow, pool)
        look = partial(survey, folder=work.headers, allow=allow, pool=pool)
        inputs = gather(seen, _unread(listed, seen), look, work.archives)
        seen = inputs.seen
        stated = _stated_names(label_names, inputs.tables, earlier)
        rules = NameRules.of(stated.values(), structures)
        context = Context(
            names, inputs.tables, modality, class_folders, allow, inputs.data, stated, rules
        )
        account = Account(seen.found, names, earlier.batch if earlier else 1)
        mark_unplanned(inputs, account)
        loader = _load(store_path, made_by, work, earlier, seen, context, account, pool)
        details = {
            path: (item.size, item.modified, series_of(seen.slices[path], names)
                   if path in seen.slices else "")
            for path, item in seen.listed.items()
        }  # fmt: skip
        account.write_private(private, details)
        unusable = [] if loader.volumes else ["Nothing could be used; no store was made."]
        notes = notes_on(inputs) + unusable
        draw = partial(page_or_note, notes)
        if loader.added or (earlier and account.rows):
            loader.writer.set_label_names(
                _all_label_names(loader.label_values, loader.structures | stated, earlier)
            )
            loader.writer.finish(account.rows, len(seen.found), draw)
        elif earlier and not (store_path / PAGE_NAME).exists():
            draw(Store.open(store_path))
    found = len(listed) + sum(inputs.members.values())
    return IngestSummary(
        found=found,
        volumes=loader.volumes,
        subjects=len(loader.subjects),
        counts=account.counts(),
        notes=[_RESUMED] * work.resumed + notes,
        store=store_path if loader.volumes else None,
        private=private,
        incomplete=loader.incomplete or bool(inputs.missing),
        known=found - len(seen.found),
        added=loader.added,
    )


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
        Found(item.path, item.relative, kinds[item.path.name in (*TABLE_NAMES, DESCRIPTION)])
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


def _check_allow(allow: Collection[str]) -> None:
    for code in allow:
        if code not in ALLOWABLE:
            raise MedsslError(
                "CODE_NOT_ALLOWABLE",
                "This defect cannot be accepted",
                where=code if code in CODES else "--allow",
                fix=f"Give one of {', '.join(sorted(ALLOWABLE))}.",
            )


def _check_places(in_path: Path, store_path: Path, add: bool) -> None:
    if not in_path.exists():
        raise MedsslError("INPUT_MISSING", "The input folder does not exist", where="IN")
    if store_path.exists() and not add:
        raise MedsslError(
            "STORE_EXISTS",
            "The store already exists",
            where="STORE",
            fix="Add to it with --add, give another name, or move it away.",
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
