"""Tables that come with images: ``subjects.csv``, ``labels.csv``, and the MSD's ``dataset.json``.

``subjects.csv`` and ``labels.csv`` have a column ``file`` (relative to the table's folder, or to
``images/`` in it), and may have ``subject``, ``modality`` and ``split`` (train, validation, test);
every further column is a label of the whole image. A ``labels.csv`` with the columns ``value`` and
``name`` names the values of label maps instead. ``dataset.json`` is that of the Medical
Segmentation Decathlon: ``training``, ``test``, ``labels``, ``modality``.

A table speaks for the files of its folder and below. Where it cannot be used, or does not name a
file, that file's subject is unknown, and it is refused rather than guessed.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

from medssl.errors import MedsslError
from medssl.ingest.scan import Found, Kind
from medssl.store.records import LabelValue

TABLE_NAMES = ("subjects.csv", "labels.csv", "dataset.json")
RESERVED = ("file", "subject", "modality", "split", "labelled")
SPLITS = {"": "", "val": "validation"} | {n: n for n in ("train", "validation", "test")}
_IDENTIFYING = frozenset(
    ["name", "patient_name", "patientname", "first_name", "last_name", "surname", "mrn",
     "patient_id", "patientid", "birth_date", "birthdate", "dob", "date_of_birth", "address",
     "phone", "email", "ssn"]
)  # fmt: skip
_MSD_MODALITIES = {"mri": "MR", "mr": "MR", "ct": "CT", "pet": "PT"}


@dataclass(frozen=True)
class Row:
    """What the tables say of one image; ``label_map`` is a relative path.

    ``study`` tells the visits of a subject apart; ``channels`` is how many kinds of image a 4D
    file holds, 0 where no table says; ``labelled`` are the label values that its label map was
    annotated for, empty where its table leaves that open, None where no table has the column.
    """

    subject: str | None = None
    study: str = ""
    modality: str = ""
    split: str = ""
    labels: dict[str, LabelValue] = field(default_factory=dict)
    label_map: str | None = None
    channels: int = 0
    labelled: tuple[int, ...] | None = None


@dataclass
class DataSet:
    """A folder with tables.

    Attributes:
        root: its path relative to IN, "" for IN itself.
        rows: by path relative to IN.
        has_subjects: whether a table states subjects.
        label_names: names of label map values.
        broken: why a table could not be used, or "".
        used, refused: its tables, and the error of those that could not be used.
        missing: how many files they name that are not there.
        refusals: code and detail of images that its layout refuses, by relative path.
        sidecars: relative paths of files that describe images, and are not read.
        remarks: what the user should know, free of identifiers.
    """

    root: str
    rows: dict[str, Row] = field(default_factory=dict)
    has_subjects: bool = False
    label_names: dict[int, str] = field(default_factory=dict)
    broken: str = ""
    used: list[Found] = field(default_factory=list)
    refused: list[tuple[Found, MedsslError]] = field(default_factory=list)
    missing: int = 0
    refusals: dict[str, tuple[str, str]] = field(default_factory=dict)
    sidecars: set[str] = field(default_factory=set)
    remarks: list[str] = field(default_factory=list)


def folders_above(relative: str) -> Iterator[str]:
    """The folders that a file is in, the nearest first; "" is IN."""
    while relative:
        relative = relative.rpartition("/")[0]
        yield relative


class Tables:
    """All tables below IN."""

    def __init__(self, datasets: Iterable[DataSet]) -> None:
        self.datasets = sorted(datasets, key=lambda d: d.root)
        self._by_root = {d.root: d for d in self.datasets}

    @classmethod
    def read(cls, found: Sequence[Found]) -> Tables:
        """Read every table; one that cannot be used is noted in its data set, not raised."""
        present = {item.relative for item in found}
        datasets: dict[str, DataSet] = {}
        for item in found:
            place = PurePosixPath(item.relative)
            if item.kind is not Kind.TABLE or place.name not in TABLE_NAMES:
                continue
            root = "" if str(place.parent) == "." else str(place.parent)
            dataset = datasets.setdefault(root, DataSet(root))
            try:
                _read_one(item, dataset, present)
                dataset.used.append(item)
            except MedsslError as error:
                dataset.refused.append((item, error))
                dataset.broken = error.what
        return cls(datasets.values())

    def of(self, relative: str) -> DataSet | None:
        """The data set of the nearest folder above a file that has tables."""
        if not self._by_root:
            return None
        roots = (root for root in folders_above(relative) if root in self._by_root)
        return self._by_root.get(next(roots, ""))

    def label_names(self) -> dict[int, str]:
        """Names of label map values over all data sets.

        Raises:
            MedsslError: TABLE_INVALID where two data sets name one value differently.
        """
        names: dict[int, str] = {}
        for dataset in self.datasets:
            for value, name in dataset.label_names.items():
                if names.setdefault(value, name) != name:
                    raise MedsslError(
                        "TABLE_INVALID",
                        f"Two tables give label {value} different names",
                        fix="Ingest the folders into two stores, or state --label-name.",
                    )
        return names


def _invalid(what: str) -> MedsslError:
    return MedsslError("TABLE_INVALID", what)


def _read_one(item: Found, dataset: DataSet, present: set[str]) -> None:
    try:
        text = item.path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise _invalid("The table is not readable as UTF-8 text") from None
    if item.relative.endswith(".json"):
        _read_msd(text, dataset, present)
    else:
        _read_csv(text, dataset, present)


def _read_csv(text: str, dataset: DataSet, present: set[str]) -> None:
    try:
        lines = [row for row in csv.reader(io.StringIO(text), strict=True) if any(row)]
    except csv.Error:
        raise _invalid("The table is not valid CSV") from None
    header = [cell.strip() for cell in lines[0]] if lines else []
    body = lines[1:]
    if len(set(header)) != len(header):
        raise _invalid("A column name is there twice")
    for number, cells in enumerate(body, start=2):
        if len(cells) != len(header):
            raise _invalid(f"Row {number} has {len(cells)} cells, not {len(header)}")
    columns = {name: [row[i].strip() for row in body] for i, name in enumerate(header)}
    if set(header) == {"value", "name"}:
        dataset.label_names.update(_label_names(dict(zip(*columns.values(), strict=True)), header))
        return
    if "file" not in columns:
        raise _invalid("The table has no column `file`")
    if any(identifying(name) for name in header):
        raise _invalid("A column name promises identifiers (a name, a number, a birth date)")
    labels = {name: typed_column(cells) for name, cells in columns.items() if name not in RESERVED}
    rows: dict[str, Row] = {}
    for number, file in enumerate(columns["file"]):
        relative = _resolve(file, dataset.root, present)
        row = Row(
            subject=columns["subject"][number] if "subject" in columns else None,
            modality=_modality(columns["modality"][number]) if "modality" in columns else "",
            split=_split(columns["split"][number]) if "split" in columns else "",
            labels={name: values[number] for name, values in labels.items()},
            labelled=_values(columns["labelled"][number]) if "labelled" in columns else None,
        )
        if relative in rows:
            raise _invalid("A file is named in two rows")
        rows[relative] = row
    _merge(dataset, rows, present)
    dataset.has_subjects |= "subject" in columns


def _label_names(names: dict[str, str], header: Sequence[str]) -> dict[int, str]:
    pairs = names.items() if header[0] == "value" else ((v, n) for n, v in names.items())
    try:
        return {int(value): name for value, name in pairs if int(value) != 0}
    except ValueError:
        raise _invalid("A label value is not a whole number") from None


def _merge(dataset: DataSet, rows: dict[str, Row], present: set[str]) -> None:
    """Add rows to what another table of the folder said."""
    named = [*rows, *(row.label_map for row in rows.values() if row.label_map is not None)]
    dataset.missing += sum(relative not in present for relative in named)
    for relative, row in rows.items():
        known = dataset.rows.get(relative)
        if known is not None:
            row = replace(
                row,
                subject=row.subject if row.subject is not None else known.subject,
                modality=row.modality or known.modality,
                split=row.split or known.split,
                labels={**known.labels, **row.labels},
                label_map=row.label_map or known.label_map,
                channels=row.channels or known.channels,
                labelled=known.labelled if row.labelled is None else row.labelled,
            )
        dataset.rows[relative] = row


def _resolve(file: str, root: str, present: set[str]) -> str:
    """A table's ``file`` as a path relative to IN."""
    place = PurePosixPath(file.replace("\\", "/"))
    if not file or place.is_absolute() or ".." in place.parts:
        raise _invalid("A file name is empty or leads out of the table's folder")
    plain = str(PurePosixPath(root) / place)
    in_images = str(PurePosixPath(root) / "images" / place)
    return in_images if plain not in present and in_images in present else plain


def _modality(text: str) -> str:
    if text and not (text.isascii() and text.isalnum() and text.isupper() and len(text) <= 16):
        raise _invalid("A modality is not a DICOM code such as CT or MR")
    return text


def _split(text: str) -> str:
    if text not in SPLITS:
        raise _invalid("A split is none of train, validation, test")
    return SPLITS[text]


def _values(text: str) -> tuple[int, ...]:
    if not all(word.isascii() and word.isdigit() and int(word) for word in text.split()):
        raise _invalid("`labelled` holds other than label values with blanks between them")
    return tuple(sorted({int(word) for word in text.split()}))


def identifying(column: str) -> bool:
    """Whether a column's name promises a name, a number or a birth date of a person."""
    return column.lower().replace(" ", "_") in _IDENTIFYING


def typed_column(cells: Sequence[str]) -> list[LabelValue]:
    """A column as whole numbers, else as numbers, else as text; empty cells are None."""
    cells = ["" if cell.lower() in ("nan", "n/a") else cell for cell in cells]
    for kind in (int, float):
        try:
            return [kind(cell) if cell else None for cell in cells]
        except ValueError:
            continue
    return [cell or None for cell in cells]


def _read_msd(text: str, dataset: DataSet, present: set[str]) -> None:
    try:
        data: Any = json.loads(text)
    except ValueError:
        raise _invalid("dataset.json is not valid JSON") from None
    if not isinstance(data, dict) or not isinstance(data.get("training"), list):
        raise _invalid("dataset.json has no list `training`")
    if not all(isinstance(data.get(key, {}), dict) for key in ("modality", "labels")):
        raise _invalid("`modality` or `labels` in dataset.json is not an object")
    modalities = [str(m).lower() for m in data.get("modality", {}).values()]
    modality = _MSD_MODALITIES.get(modalities[0].split("-")[0], "") if len(modalities) == 1 else ""
    channels = len(modalities) if len(modalities) > 1 else 0
    rows: dict[str, Row] = {}
    for split, key in (("train", "training"), ("test", "test")):
        for entry in data.get(key) or []:
            image = entry.get("image") if isinstance(entry, dict) else entry
            label = entry.get("label") if isinstance(entry, dict) else None
            if not isinstance(image, str) or not (label is None or isinstance(label, str)):
                raise _invalid(f"An entry of `{key}` in dataset.json does not name an image")
            where = None if label is None else _resolve(label, dataset.root, present)
            place = _resolve(image, dataset.root, present)
            rows[place] = Row(modality=modality, split=split, label_map=where, channels=channels)
    _merge(dataset, rows, present)
    names = {str(k): str(v) for k, v in data.get("labels", {}).items()}
    dataset.label_names.update(_label_names(names, ("value", "name")))
