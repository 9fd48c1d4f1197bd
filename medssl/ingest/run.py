"""Ingest a folder: look at its files, and take the steps from there to a store."""

from __future__ import annotations

import platform
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from medssl.cluster import Cluster
from medssl.imports import importing
from medssl.ingest.isolate import Limits
from medssl.ingest.options import Options, Wishes, check_options, check_places
from medssl.ingest.pool import Pool
from medssl.ingest.pseudonym import Pseudonymizer, load_key
from medssl.ingest.scan import walk
from medssl.ingest.survey import begin_survey
from medssl.ingest.unfinished import Unfinished

if TYPE_CHECKING:
    from medssl.ingest.account import IngestSummary

PRIVATE_SUFFIX = ".private"
KEY_NAME = "site.key"


def ingest(
    in_path: Path,
    store_path: Path,
    *,
    key_file: Path | None = None,
    workers: int = 1,
    add: bool = False,
    scheduler: str | None = None,
    **wishes: Unpack[Wishes],
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
        workers: how many processes read at once, with limits on time and memory; the store does
            not depend on it.
        add: add to the store where there is one. Files that it has accounted for, and that have not
            changed since, are not read again, but for those that were refused and whose series has
            new files. A volume of the store is never changed or replaced.
        scheduler: address of a Dask scheduler whose workers read instead of this machine; they
            must see the same paths.
        wishes: see :class:`medssl.ingest.options.Options`.

    Raises:
        MedsslError: CODE_NOT_ALLOWABLE, CONFIG_INVALID, INPUT_MISSING, STORE_EXISTS,
            STORE_INSIDE_INPUT, KEY_INVALID, TABLE_INVALID (tables that contradict each other),
            INGEST_RUNNING, PRIVATE_MISSING, SCHEDULER_UNAVAILABLE, DISK_FULL.
    """
    in_path, store_path, options = Path(in_path), Path(store_path), Options(**wishes)
    check_options(options)
    check_places(in_path, store_path, add)
    private = store_path.with_name(store_path.name + PRIVATE_SUFFIX)
    names = Pseudonymizer(load_key(key_file or private / KEY_NAME))
    add = add and store_path.exists()
    root = names.path(str(in_path.resolve()))
    made_by = _made_by(options)
    common = {**options.plain(), "root": root, "add": add, "made_by": made_by}
    with Unfinished(store_path, common) as work, ExitStack() as stack:
        pool, listed = _pool(workers, scheduler, stack), walk(in_path)
        begun = None if add else begin_survey(listed, work.headers, options.allow, pool)
        # Imported while the files are looked at: it takes as long as a thousand of them.
        with importing():
            from medssl.ingest.earlier import Earlier
            from medssl.ingest.steps import Steps

        earlier = Earlier.read(store_path, work.base, private, names) if add else None
        steps = Steps(store_path, private, names, options, work, pool, made_by, begun, earlier)
        return steps.run(listed)


def _made_by(options: Options) -> dict[str, str]:
    packages = {name: version(name) for name in ("medssl", "pydicom", "nibabel", "numpy")}
    python = platform.python_version()
    return {"verb": "ingest", "modality": options.modality, "python": python, **packages}


def _pool(workers: int, scheduler: str | None, stack: ExitStack) -> Pool:
    if scheduler is None:
        return Pool(workers, Limits.of_this_machine(workers))
    cluster = stack.enter_context(Cluster(scheduler))
    return Pool(cluster.cores(), Limits.of_this_machine(workers), cluster)
