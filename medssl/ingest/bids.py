"""BIDS trees: subject, session, modality and label maps from names (Brain Imaging Data Structure).

``dataset_description.json`` with ``BIDSVersion`` marks a root. Subject and session are those of
the folders, which the names must repeat; ``participants.tsv`` gives labels of the whole subject. A
label map (``_mask``, ``_dseg``, ``_roi``) belongs to the one image that has its entities and its
grid.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from medssl.errors import MedsslError
from medssl.ingest.bids_labels import LABEL_SUFFIXES, BidsImage, match_labels, parse_name, read_json
from medssl.ingest.scan import IMAGE_KINDS, Found, Kind
from medssl.ingest.tables import DataSet, Row, Tables, folders_above, identifying, typed_column
from medssl.store.records import LabelValue

DESCRIPTION, PARTICIPANTS = "dataset_description.json", "participants.tsv"
_MODALITIES = {"anat": "MR", "func": "MR", "dwi": "MR", "fmap": "MR", "perf": "MR", "pet": "PT",
               "ct": "CT"}  # fmt: skip
_SUFFIX_MODALITIES = {"ct": "CT", "pet": "PT"}
_SIDECARS = (".json", ".tsv", ".tsv.gz", ".bval", ".bvec")


def with_bids(tables: Tables, found: Sequence[Found]) -> Tables:
    """The tables, and with them what the BIDS trees among the files say.

    A ``dataset_description.json`` that cannot be read leaves the subjects of its tree unknown.
    """
    datasets = {dataset.root: dataset for dataset in tables.datasets}
    roots = _roots(found, datasets)
    images: list[BidsImage] = []
    for place in roots:
        datasets.setdefault(place, DataSet(place)).has_subjects = True
    participants = _describe(found, roots, datasets)
    for item in found:
        root = _nearest(item.relative, roots)
        if root is None or item.kind not in IMAGE_KINDS:
            continue
        try:
            images.append(parse_name(item, root, roots))
        except MedsslError as error:
            datasets[root].refusals[item.relative] = (error.code, error.what)
    labels, refused = match_labels(images, found)
    for label, why in refused:
        datasets[label.root].refusals[label.item.relative] = (why.code, why.what)
    for image in images:
        dataset = datasets[image.root]
        if image.suffix in LABEL_SUFFIXES or image.item.relative in dataset.rows:
            continue
        if image.derived:
            refusal = ("DERIVED", "An image of a BIDS derivative, not an acquired one")
            dataset.refusals[image.item.relative] = refusal
            continue
        dataset.rows[image.item.relative] = Row(
            subject=image.subject,
            study=f"{image.subject}/{image.session}",
            modality=_modality(image),
            labels=participants.get((image.root, image.subject), {}),
            label_map=labels.get(image.item.relative),
        )
    _remark_on_unlisted(images, participants, datasets)
    if sum(not derived for derived in roots.values()) > 1:
        text = "Several BIDS trees: subjects of one label count as one subject."
        datasets[next(iter(roots))].remarks.append(text)
    return Tables(datasets.values())


def _remark_on_unlisted(
    images: Sequence[BidsImage],
    participants: Mapping[tuple[str, str], object],
    datasets: Mapping[str, DataSet],
) -> None:
    for root in sorted({root for root, _ in participants}):
        subjects = {image.subject for image in images if image.root == root}
        unlisted = sum((root, subject) not in participants for subject in subjects)
        if unlisted:
            text = f"{unlisted} subjects of a BIDS tree have no row in its {PARTICIPANTS}."
            datasets[root].remarks.append(text)


def _roots(found: Sequence[Found], datasets: dict[str, DataSet]) -> dict[str, bool]:
    """Relative path of every BIDS root, and whether it says that it is a derivative."""
    roots = {}
    for item in found:
        if item.kind is not Kind.TABLE or PurePosixPath(item.relative).name != DESCRIPTION:
            continue
        root, description = _folder(item.relative), read_json(item)
        if description is None:
            dataset = datasets.setdefault(root, DataSet(root))
            dataset.broken = f"{DESCRIPTION} is no JSON object"
            dataset.refused.append((item, MedsslError("TABLE_INVALID", dataset.broken)))
        elif "BIDSVersion" in description:
            below = "derivatives" in PurePosixPath(root).parts
            roots[root] = below or description.get("DatasetType") == "derivative"
    return roots


def _folder(relative: str) -> str:
    parent = str(PurePosixPath(relative).parent)
    return "" if parent == "." else parent


def _nearest(relative: str, roots: dict[str, bool]) -> str | None:
    return (
        next((name for name in folders_above(relative) if name in roots), None) if roots else None
    )


def _describe(
    found: Sequence[Found], roots: dict[str, bool], datasets: dict[str, DataSet]
) -> dict[tuple[str, str], dict[str, LabelValue]]:
    """Account for the files that are no images; labels by root and subject."""
    labels: dict[tuple[str, str], dict[str, LabelValue]] = {}
    for item in found:
        root = _nearest(item.relative, roots)
        if root is None or item.kind not in (Kind.TABLE, Kind.OTHER, Kind.UNSUPPORTED):
            continue
        dataset, name = datasets[root], PurePosixPath(item.relative).name
        at_root = _folder(item.relative) == root
        if at_root and name == DESCRIPTION:
            dataset.used.append(item)
        elif at_root and name == PARTICIPANTS:
            try:
                rows, left_out = _participants(item)
            except MedsslError as error:
                dataset.refused.append((item, error))
                continue
            dataset.used.append(item)
            labels.update({(root, subject): row for subject, row in rows.items()})
            if left_out:
                text = f"{left_out} columns of a {PARTICIPANTS} promise identifiers: left out."
                dataset.remarks.append(text)
        elif name.endswith(_SIDECARS):
            dataset.sidecars.add(item.relative)
    return labels


def _participants(item: Found) -> tuple[dict[str, dict[str, LabelValue]], int]:
    """Labels by subject, and how many columns were left out.

    Raises:
        MedsslError: TABLE_INVALID.
    """
    try:
        text = item.path.read_text(encoding="utf-8-sig")
        lines = [row for row in csv.reader(io.StringIO(text), delimiter="\t") if any(row)]
    except (OSError, UnicodeDecodeError, csv.Error):
        raise MedsslError("TABLE_INVALID", "The table is not tab-separated UTF-8 text") from None
    header = [cell.strip() for cell in lines[0]] if lines else []
    body = lines[1:]
    if "participant_id" not in header or len(set(header)) != len(header):
        raise MedsslError("TABLE_INVALID", "The columns are not those of participants.tsv")
    if any(len(row) != len(header) for row in body):
        raise MedsslError("TABLE_INVALID", "A row has not as many cells as there are columns")
    columns = {name: [row[i].strip() for row in body] for i, name in enumerate(header)}
    subjects = columns.pop("participant_id")
    if len(set(subjects)) != len(subjects):
        raise MedsslError("TABLE_INVALID", "A participant is there twice")
    kept = {name: typed_column(cells) for name, cells in columns.items() if not identifying(name)}
    rows = {
        subject: {name: values[number] for name, values in kept.items()}
        for number, subject in enumerate(subjects)
    }
    return rows, len(columns) - len(kept)


def _modality(image: BidsImage) -> str:
    return _SUFFIX_MODALITIES.get(image.suffix, _MODALITIES.get(image.datatype, ""))
