"""From the files found to jobs: which files belong together, and whose they are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from medssl.errors import MedsslError
from medssl.ingest.completeness import Extent, beside_siblings
from medssl.ingest.dicom import DicomVolume, group_slices, same_pixels
from medssl.ingest.headers import Refused, SliceHeader
from medssl.ingest.images import SPLIT_FOLDERS
from medssl.ingest.jobs import Drawing, ImageFile, Job
from medssl.ingest.label_maps import ReadLabels, plan_labels, read_labels
from medssl.ingest.options import Options
from medssl.ingest.pseudonym import Pseudonymizer
from medssl.ingest.rejection import Rejection
from medssl.ingest.scan import IMAGE_KINDS, PICTURES, Found, Kind
from medssl.ingest.structures import EVERY, NameRules
from medssl.ingest.tables import Row, Tables
from medssl.store.records import LabelValue

LABEL_FOLDERS = {"images": "labels", "imagesTr": "labelsTr"}


@dataclass(frozen=True)
class Context:
    """What every plan needs.

    Attributes:
        names: the pseudonymizer.
        tables: the tables found.
        options: what the user asks for.
        data: relative path of a header to that of the file with its voxels.
        label_names: label values that tables or the user named.
        rules: what the user said of the names of structures.
        before: volumes of the store that is added to, of the same studies.
    """

    names: Pseudonymizer
    tables: Tables
    options: Options = field(default_factory=Options)
    data: Mapping[str, str] = field(default_factory=dict)
    label_names: Mapping[int, str] = field(default_factory=dict)
    rules: NameRules = EVERY
    before: Sequence[Extent] = ()


@dataclass(frozen=True)
class Readers:
    """How files are read while planning; by default right here.

    Attributes:
        same: see :func:`medssl.ingest.dicom.group_slices`.
        labels: see :func:`medssl.ingest.label_maps.read_labels`.
    """

    same: Callable[[SliceHeader, SliceHeader], bool] = same_pixels
    labels: ReadLabels = read_labels


def plan(
    found: Sequence[Found],
    slices: Mapping[Path, list[SliceHeader] | Refused],
    context: Context,
    readers: Readers,
) -> tuple[list[Job], list[Rejection]]:
    """Group files into jobs; what can be refused from names and headers alone is refused.

    Args:
        found: every file.
        slices: of the DICOM files among them.
        context: what else is known.
        readers: how files are read.
    """
    jobs, rejections = _dicom(found, slices, context, readers)
    image_jobs, image_rejections = _images(found, context)
    jobs += image_jobs
    rejections += image_rejections
    options = context.options
    allow = tuple(sorted(options.allow))
    archives = [item.path for item in found if item.kind is Kind.NPZ]
    jobs += [Job(Kind.NPZ, [p], modality=options.modality, allow=allow) for p in archives]
    return jobs, rejections


def _dicom(
    found: Sequence[Found],
    slices: Mapping[Path, list[SliceHeader] | Refused],
    context: Context,
    readers: Readers,
) -> tuple[list[Job], list[Rejection]]:
    relative = {item.path: item.relative for item in found if item.kind is Kind.DICOM}
    volumes, rejections = group_slices(
        [slices[path] for path in sorted(relative)],
        single_slices=True,
        allow=context.options.allow,
        same=readers.same,
    )
    allow, before = context.options.allow, context.before
    if before:
        volumes, short = beside_siblings(volumes, allow, before, context.names)
        rejections += short
    # The header pass refuses label objects as images; only now are all volumes known.
    labels = [path for r in rejections if r.code == "LABEL_WITHOUT_IMAGE" for path in r.files]
    drawn, values, more = plan_labels(
        readers.labels(labels, context.rules),
        volumes,
        context.label_names,
        bool(_pairs([i.relative for i in found if i.kind in IMAGE_KINDS], context.tables)),
        context.rules,
    )
    rejections = [r for r in rejections if r.code != "LABEL_WITHOUT_IMAGE"] + more
    objects = {id(volume): tuple(drawn.get(i, ())) for i, volume in enumerate(volumes)}
    jobs = []
    for together in _sharing_files(volumes):
        files = _each_once(path for volume in together for path in volume.files)
        copies = _each_once(path for volume in together for path in volume.duplicates)
        try:
            row = _row_of_series(together, [relative[path] for path in (*files, *copies)], context)
        except MedsslError as error:
            rejections.append(Rejection([*files, *copies], error.code, error.what))
            continue
        own = tuple(objects[id(volume)] for volume in together)
        drawing = Drawing(own, values, context.rules, frozenset(context.options.allow))
        jobs.append(
            Job(
                Kind.DICOM,
                files,
                copies,
                row,
                tuple(together),
                allow=tuple(sorted(context.options.allow)),
                deface=context.options.deface,
                drawing=drawing if any(own) else None,
            )
        )
    return jobs, rejections


def _row_of_series(
    volumes: Sequence[DicomVolume], relatives: Iterable[str], context: Context
) -> Row:
    """What the tables say of a series, whose files may each have a row.

    Raises:
        MedsslError: SUBJECT_UNKNOWN, DUPLICATE_CONFLICT.
    """
    if not volumes[0].patient_id:
        raise MedsslError("SUBJECT_UNKNOWN", "The series has no Patient ID")
    rows = [row for name in relatives if (row := _row(name, context.tables)) is not None]
    labels: dict[str, LabelValue] = {}
    for name, value in ((n, v) for row in rows for n, v in row.labels.items()):
        if labels.setdefault(name, value) != value:
            raise MedsslError("DUPLICATE_CONFLICT", "A table gives one series two labels")
    splits = {row.split for row in rows} or {""}
    if len(splits) > 1:
        raise MedsslError("DUPLICATE_CONFLICT", "A table puts one series in two splits")
    return Row(split=splits.pop(), labels=labels)


def _sharing_files(volumes: Sequence[DicomVolume]) -> list[list[DicomVolume]]:
    """Volumes next to each other that are read from the same files, together."""
    groups: list[list[DicomVolume]] = []
    known: set[Path] = set()
    for volume in volumes:
        if groups and known & set(volume.files):
            groups[-1].append(volume)
        else:
            groups.append([volume])
            known = set()
        known.update(volume.files)
    return groups


def _each_once(paths: Iterable[Path]) -> list[Path]:
    return list(dict.fromkeys(paths))


def _row(relative: str, tables: Tables) -> Row | None:
    dataset = tables.of(relative)
    return None if dataset is None else dataset.rows.get(relative)


def _images(found: Sequence[Found], context: Context) -> tuple[list[Job], list[Rejection]]:
    """Jobs for files that are an image each, with their label maps."""
    paths = {item.relative: item.path for item in found}
    files = {
        item.relative: ImageFile(
            item.kind,
            [paths[name] for name in (item.relative, context.data.get(item.relative)) if name],
        )
        for item in found
        if item.kind in IMAGE_KINDS
    }
    pairs = _pairs(files, context.tables)
    label_maps = set(pairs.values())
    jobs: list[Job] = []
    rejections: list[Rejection] = []
    for relative, image in files.items():
        if relative in label_maps:
            continue
        label = files[pairs[relative]] if relative in pairs else None
        both = [*image.files, *(label.files if label is not None else [])]
        try:
            row = _row_of_image(relative, context, image.kind)
        except MedsslError as error:
            rejections.append(Rejection(both, error.code, error.what))
            continue
        modality = row.modality or context.options.modality
        jobs.append(
            Job(
                image.kind,
                both,
                row=row,
                modality=modality,
                allow=tuple(sorted(context.options.allow)),
                deface=context.options.deface,
                label=label,
                labelled=() if label is None else _labelled(relative, row, context.tables),
            )
        )
    return jobs, rejections


def _pairs(files: Collection[str], tables: Tables) -> dict[str, str]:
    """Image to label map: as a table says, else by the folder layout."""
    pairs: dict[str, str] = {}
    for relative in files:
        row = _row(relative, tables)
        place = PurePosixPath(relative)
        folder = LABEL_FOLDERS.get(place.parent.name)
        label = row.label_map if row is not None else None
        if label is None and folder is not None:
            label = str(place.parent.parent / folder / place.name)
        if label is not None and label in files:
            pairs[relative] = label
    return pairs


def _labelled(relative: str, row: Row, tables: Tables) -> tuple[int, ...]:
    """What a label map was annotated for: as its row says, else every value that its data set
    names."""
    dataset = tables.of(relative)
    named = () if dataset is None else tuple(sorted(dataset.label_names))
    return named if row.labelled is None else row.labelled


def _row_of_image(relative: str, context: Context, kind: Kind) -> Row:
    """What the tables say of an image.

    Raises:
        MedsslError: SUBJECT_UNKNOWN where there is a table that does not say; LABEL_WITHOUT_IMAGE
            for a label map; what a BIDS tree refuses.
    """
    dataset = context.tables.of(relative)
    if dataset is not None and relative in dataset.refusals:
        raise MedsslError(*dataset.refusals[relative])
    if PurePosixPath(relative).parent.name in LABEL_FOLDERS.values():
        raise MedsslError("LABEL_WITHOUT_IMAGE", "No image has its name")
    if dataset is not None and dataset.broken:
        raise MedsslError("SUBJECT_UNKNOWN", "The table of its folder could not be used")
    if dataset is None or not dataset.rows:
        return _class_row(relative) if context.options.class_folders and kind in PICTURES else Row()
    row = dataset.rows.get(relative)
    if row is None or (dataset.has_subjects and not row.subject):
        raise MedsslError("SUBJECT_UNKNOWN", "The table of its folder does not name its subject")
    return row


def _class_row(relative: str) -> Row:
    """``[SPLIT/]CLASS/file.png``: the folder is the class."""
    folders = PurePosixPath(relative).parts[:-1]
    if not folders:
        return Row()
    split = next((SPLIT_FOLDERS[f] for f in folders[:-1] if f in SPLIT_FOLDERS), "")
    return Row(split=split, labels={"class": folders[-1]})
