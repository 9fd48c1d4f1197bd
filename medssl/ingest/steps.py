"""The steps of an ingest once its files are being looked at: plan, read, write, account."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from medssl.errors import MedsslError
from medssl.ingest.account import Account, IngestSummary
from medssl.ingest.bids import DESCRIPTION
from medssl.ingest.burned_in import CODE as TEXT
from medssl.ingest.completeness import outgrown
from medssl.ingest.earlier import Earlier, series_of
from medssl.ingest.face import REMOVED, VISIBLE, face_notes
from medssl.ingest.inputs import Inputs, gather, mark_unplanned, notes_on
from medssl.ingest.load import Loader
from medssl.ingest.make import item_of, make, read_labels_in_a_process, same_in_a_process
from medssl.ingest.options import Options
from medssl.ingest.plan import Context, Readers, plan
from medssl.ingest.pool import Pool, run_items
from medssl.ingest.profile import deidentification
from medssl.ingest.pseudonym import Pseudonymizer
from medssl.ingest.quarantine import write_quarantine
from medssl.ingest.refusals import rejected_groups
from medssl.ingest.report import page_or_note
from medssl.ingest.scan import Found, Kind, Listed
from medssl.ingest.structures import NameRules
from medssl.ingest.survey import Survey, survey
from medssl.ingest.tables import TABLE_NAMES
from medssl.ingest.unfinished import Unfinished
from medssl.progress import track
from medssl.store import PAGE_NAME, Store, StoreInfo, StoreWriter

_RESUMED = "Went on where an interrupted ingest had stopped."


@dataclass(frozen=True)
class Steps:
    """One ingest: what it works with, and its steps.

    Attributes:
        store_path: the store to make, or to add to.
        private: the folder of the key and the private ledger.
        names: the pseudonymizer.
        options: what the user asks for.
        work: the folder of what is done.
        pool: where work is done.
        made_by: the program, for the store.
        begun: ends the look at all files that was begun; None where the store is added to.
    """

    store_path: Path
    private: Path
    names: Pseudonymizer
    options: Options
    work: Unfinished
    pool: Pool
    made_by: dict[str, Any]
    begun: Callable[[], Survey] | None = None
    earlier: Earlier | None = None

    def run(self, listed: Sequence[Listed]) -> IngestSummary:
        """From the files below IN to the store and the summary."""
        seen = self._survey(listed)
        inputs = gather(seen, _unread(listed, seen), self._look, self.work.archives)
        context = self._context(inputs)
        seen, batch = inputs.seen, self.earlier.batch if self.earlier else 1
        account = Account(seen.found, self.names, batch)
        mark_unplanned(inputs, account)
        loader = self._load(seen, context, account)
        account.write_private(self.private, self._details(seen))
        text = account.with_code(TEXT)
        write_quarantine(self.private, text)
        notes = notes_on(inputs, len(text)) + face_notes(loader.faces)
        if short := outgrown(context.before, loader.extents):
            notes.append(
                f"{short} series of the store, added earlier, have fewer slices than a new series "
                "of their study: look whether they are whole. A store's volumes stay as they are."
            )
        if not loader.volumes:
            notes.append("Nothing could be used; no store was made.")
        refused = rejected_groups(
            loader.rejections, self.work.volumes / "pictures", self.pool, seen
        )
        draw = partial(page_or_note, notes, batch=batch, rejected=refused)
        self._finish(account, len(seen.found), loader, context, draw)
        found = len(listed) + sum(inputs.members.values())
        return IngestSummary(
            found=found,
            volumes=loader.volumes,
            subjects=len(loader.subjects),
            counts=account.counts(),
            notes=[_RESUMED] * self.work.resumed + notes,
            store=self.store_path if loader.volumes else None,
            private=self.private,
            incomplete=loader.incomplete or bool(inputs.missing),
            known=found - len(seen.found),
            added=loader.added,
        )

    def _look(self, listed: Sequence[Listed]) -> Survey:
        return survey(listed, self.work.headers, self.options.allow, self.pool)

    def _survey(self, listed: Sequence[Listed]) -> Survey:
        """Look at every file, or at those that are new and those that may be whole with them."""
        if self.begun is not None:
            return self.begun()
        if self.earlier is None:
            return self._look(listed)
        seen = self._look(self.earlier.new(listed))
        again = self.earlier.again(listed, seen.slices, self.names)
        return seen.beside(self._look(again)) if again else seen

    def _context(self, inputs: Inputs) -> Context:
        """What the user, the tables and the store that is added to say."""
        stated = self.options.label_names
        names = {
            **(self.earlier.store.info.label_names if self.earlier else {}),
            **(inputs.tables.label_names() if stated is None else stated),
        }
        rules = NameRules.of(names.values(), self.options.structures)
        before = self.earlier.extents(inputs.seen.slices, self.names) if self.earlier else ()
        return Context(self.names, inputs.tables, self.options, inputs.data, names, rules, before)

    def _load(self, seen: Survey, context: Context, account: Account) -> Loader:
        """Plan jobs, run them, and take over what they make."""
        folder = self.work.volumes
        readers = Readers(
            partial(same_in_a_process, folder / "same", self.pool),
            partial(read_labels_in_a_process, folder / "labels", self.pool, seen),
        )
        jobs, rejections = plan(seen.found, seen.slices, context, readers)
        for rejection in rejections:
            account.mark(rejection.files, rejection.outcome, rejection.code, rejection.detail)
        base, info = None, StoreInfo(made_by=self.made_by)
        if self.earlier is not None:
            base = self.earlier.store
            added_by = [*base.info.added_by, {"batch": self.earlier.batch, **info.made_by}]
            info = base.info.model_copy(update={"added_by": added_by})
        writer = StoreWriter(self.store_path, info, self.work.store, base)
        loader = Loader(writer, account, context, folder, base.rows() if base else ())
        loader.rejections += rejections
        items = [item_of(job, seen) for job in jobs]
        done = run_items(make, items, folder, self.pool)
        for item, answer in track(done, "Ingest", total=len(items)):
            loader.run(item.payload[1], answer)
            _ready_for_heads(loader.faces)
        again = [item_of(job, seen) for job in loader.again]
        for item, answer in run_items(make, again, folder, self.pool):
            loader.run(item.payload[1], answer)
        return loader

    def _details(self, seen: Survey) -> dict[Path, tuple[int, int, str]]:
        """Of each file its size, time of change and the pseudonym of its series."""
        return {
            path: (
                item.size,
                item.modified,
                series_of(seen.slices[path], self.names) if path in seen.slices else "",
            )
            for path, item in seen.listed.items()
        }

    def _finish(
        self,
        account: Account,
        found: int,
        loader: Loader,
        context: Context,
        draw: Callable[[Store], None],
    ) -> None:
        """Write the store's tables and page, where there is anything to write."""
        if loader.added or (self.earlier and account.rows):
            named = loader.structures | dict(context.label_names)
            before = self.earlier.store.info if self.earlier else StoreInfo()
            kept = {*self.options.keep, *before.deidentification.get("kept", [])}
            faces = {*loader.faces} - {"none", ""}
            record = deidentification(
                kept, burned_in=TEXT in loader.defects, faces_removed=faces == {"removed"}
            )
            loader.writer.set_deidentification(record)
            loader.writer.set_label_names(
                _all_label_names(loader.label_values, named, before.label_names)
            )
            loader.writer.finish(account.rows, found, draw)
        elif self.earlier and not (self.store_path / PAGE_NAME).exists():
            draw(Store.open(self.store_path))


def _ready_for_heads(faces: Sequence[str]) -> None:
    """Import here what children fit heads with, once there was one: they then all have it."""
    if faces and faces[-1] in (VISIBLE, REMOVED):
        import scipy.optimize
        import scipy.spatial.transform  # noqa: F401

        import medssl.ingest.relief  # noqa: F401


def _unread(listed: Sequence[Listed], seen: Survey) -> list[Found]:
    """The files that are not read again; their tables still speak for new ones."""
    kinds = {True: Kind.TABLE, False: Kind.OTHER}
    return [
        Found(item.path, item.relative, kinds[item.path.name in (*TABLE_NAMES, DESCRIPTION)])
        for item in listed
        if item.path not in seen.listed
    ]


def _all_label_names(
    values: Collection[int], stated: dict[int, str], before: dict[int, str]
) -> dict[int, str]:
    """Names of the values that occur; a store keeps those it has.

    Raises:
        MedsslError: TABLE_INVALID where a name would change.
    """
    names = dict(before)
    for value in sorted({*values} - {0}):
        name = stated.get(value, names.get(value, f"label {value}"))
        if names.setdefault(value, name) != name:
            raise MedsslError(
                "TABLE_INVALID",
                f"The store has another name for label {value}",
                fix="State the store's name with --label-name, or make another store.",
            )
    return dict(sorted(names.items()))
