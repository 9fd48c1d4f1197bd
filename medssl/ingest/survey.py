"""What lies below IN: every file, and the headers of those that are DICOM."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

from medssl.ingest.headers import Refused, SliceHeader
from medssl.ingest.isolate import Limits
from medssl.ingest.journal import Answer, Item
from medssl.ingest.look import Seen, look, seen
from medssl.ingest.pool import Pool, run_items
from medssl.ingest.scan import IMAGE_KINDS, Found, Kind, Listed
from medssl.progress import track

_SECONDS = 60.0  # for one header
_MOST_FILES = 4096  # in a batch: a header is read in no time, and the parent is busy meanwhile


@dataclass(frozen=True)
class Survey:
    """What was found.

    Attributes:
        found: every file, by relative path.
        slices: of each DICOM file, or why it has none.
        listed: the same files.
        keys: of each, what changes when the file does, as far as its name, size and time of change
            tell.
    """

    found: list[Found]
    slices: dict[Path, list[SliceHeader] | Refused]
    listed: dict[Path, Listed]
    keys: dict[Path, str]

    def beside(self, other: Survey) -> Survey:
        """This and another one."""
        found = sorted([*self.found, *other.found], key=lambda item: item.relative)
        keys = self.keys | other.keys
        return Survey(found, self.slices | other.slices, self.listed | other.listed, keys)


def survey(listed: Sequence[Listed], folder: Path, allow: Collection[str], pool: Pool) -> Survey:
    """As :func:`begin_survey`, to its end."""
    return begin_survey(listed, folder, allow, pool)()


def begin_survey(
    listed: Sequence[Listed], folder: Path, allow: Collection[str], pool: Pool
) -> Callable[[], Survey]:
    """Begin to look at every file once, several at a time.

    Args:
        listed: the files.
        folder: for the journal of what was seen.
        allow: codes of defects to accept.
        pool: where; the time for each file is short.

    Returns:
        what waits for the end of it and says what was seen.

    Raises:
        MedsslError: DISK_FULL; so may what is returned.
    """
    limits = Limits(_SECONDS, 0.0, pool.limits.bytes)
    short = Pool(pool.workers, limits, batches=1, most_files=_MOST_FILES)
    keys = {item.path: _key(item) for item in listed}
    items = [Item(keys[item.path], item.path) for item in listed if not item.link]
    answers = run_items(partial(look, allow=allow), items, folder, short)
    result = Survey([], {}, {item.path: item for item in listed}, keys)

    def wait() -> Survey:
        for item in track(_merged(listed, answers, result), "Look", total=len(listed)):
            result.found.append(item)
        return result

    return wait


def _merged(
    listed: Sequence[Listed], answers: Iterator[tuple[Item, Answer]], result: Survey
) -> Iterator[Found]:
    for item in listed:
        if item.link:
            yield Found(item.path, item.relative, Kind.LINK, item.link)
            continue
        _, answer = next(answers)
        if answer.error is not None:
            result.slices[item.path] = Refused(item.path, "", *answer.error)
            yield Found(item.path, item.relative, Kind.DICOM)
            continue
        what = seen(item.path, answer.value)
        if what.slices is not None:
            result.slices[item.path] = what.slices
        _ready_for(what)
        yield Found(item.path, item.relative, what.kind, what.note)


def _ready_for(file: Seen) -> None:
    """Import here what a file needs: children have what their parent had."""
    if file.kind in IMAGE_KINDS:
        import medssl.ingest.formats  # noqa: F401
    elif isinstance(file.slices, list) and file.slices[0].raw is None:
        import pydicom  # noqa: F401


def _key(item: Listed) -> str:
    text = f"{item.relative}\0{item.size}\0{item.modified}"
    return sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]
