"""From the files found to jobs: which files belong together, and whose they are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import MedsslError
from medssl.ingest.deface import without_face
from medssl.ingest.dicom import DicomVolume, find_volumes
from medssl.ingest.images import SPLIT_FOLDERS, read_medmnist, read_png
from medssl.ingest.jobs import Job, Made, Rejection, content_hash
from medssl.ingest.nifti import read_nifti, same_grid
from medssl.ingest.pixels import SliceReader
from medssl.ingest.pseudonym import Pseudonymizer
from medssl.ingest.scan import Found, Kind
from medssl.ingest.tables import Row, Tables
from medssl.store import VolumeRecord
from medssl.store.arrays import file_hash
from medssl.store.records import LabelValue

Array = npt.NDArray[Any]

LABEL_FOLDERS = {"images": "labels", "imagesTr": "labelsTr"}


@dataclass(frozen=True)
class Context:
    """What every plan needs.

    Attributes:
        names: the pseudonymizer.
        tables: the tables found.
        modality: of files that state none ("OT" unless the user says).
        class_folders: whether a PNG's folder is its class.
        allow: codes of defects to accept.
        deface: whether to remove faces.
    """

    names: Pseudonymizer
    tables: Tables
    modality: str = "OT"
    class_folders: bool = False
    allow: Collection[str] = ()
    deface: bool = False


def plan(found: Sequence[Found], context: Context) -> tuple[list[Job], list[Rejection]]:
    """Group files into jobs; what can be refused from names and headers alone is refused."""
    jobs, rejections = _dicom(found, context)
    for part in (_images(found, context, Kind.NIFTI), _images(found, context, Kind.PNG)):
        jobs += part[0]
        rejections += part[1]
    for item in found:
        if item.kind is Kind.NPZ:
            jobs.append(Job([item.path], partial(_make_archive, item.path, context)))
    return jobs, rejections


def _dicom(found: Sequence[Found], context: Context) -> tuple[list[Job], list[Rejection]]:
    relative = {item.path: item.relative for item in found if item.kind is Kind.DICOM}
    volumes, rejections = find_volumes(relative, single_slices=True, allow=context.allow)
    jobs = []
    for together in _sharing_files(volumes):
        files = _each_once(path for volume in together for path in volume.files)
        copies = _each_once(path for volume in together for path in volume.duplicates)
        rows = [
            row
            for path in [*files, *copies]
            if (row := _row(relative[path], context.tables)) is not None
        ]
        make = partial(_make_dicom, together, rows, context)
        jobs.append(Job(files, make, copies, isolated=True))
    return jobs, rejections


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


def _make_dicom(
    volumes: Sequence[DicomVolume], rows: Sequence[Row], context: Context
) -> Iterator[Made]:
    if not volumes[0].patient_id:
        raise MedsslError("SUBJECT_UNKNOWN", "The series has no Patient ID")
    labels: dict[str, LabelValue] = {}
    splits = {row.split for row in rows} or {""}
    for name, value in ((n, v) for row in rows for n, v in row.labels.items()):
        if labels.setdefault(name, value) != value:
            raise MedsslError("DUPLICATE_CONFLICT", "A table gives one series two labels")
    if len(splits) > 1:
        raise MedsslError("DUPLICATE_CONFLICT", "A table puts one series in two splits")
    split, names, reader = splits.pop(), context.names, SliceReader()
    for volume in volumes:
        array = volume.decode(reader)
        # Two times of one series may hold the same voxels and are still two volumes.
        key = f"{volume.series_uid} {volume.part}" if volume.part else volume.series_uid
        record = VolumeRecord(
            volume_id=names.volume(key),
            subject_id=names.subject(volume.patient_id),
            study_id=names.study(volume.study_uid),
            series_id=names.series(volume.series_uid),
            modality=volume.modality,
            split=split,
            labels=labels,
            defects=volume.defects,
            source="dicom",
            part=volume.part,
        )
        content = content_hash(array, volume.affine) + volume.part
        part = volume.headers[0].body_part
        array, record = without_face(
            array, volume.affine, record, part, deface=context.deface, allow=context.allow
        )
        spacing = volume.pixel_spacing if volume.dims == 2 else None
        yield Made(record, array, volume.affine, content, pixel_spacing=spacing)


def _images(
    found: Sequence[Found], context: Context, kind: Kind
) -> tuple[list[Job], list[Rejection]]:
    """Jobs for files that are an image each, with their label maps."""
    files = {item.relative: item.path for item in found if item.kind is kind}
    pairs = _pairs(files, context.tables)
    label_maps = set(pairs.values())
    jobs: list[Job] = []
    rejections: list[Rejection] = []
    for relative, path in files.items():
        if relative in label_maps:
            continue
        if PurePosixPath(relative).parent.name in LABEL_FOLDERS.values():
            rejections.append(Rejection([path], "LABEL_WITHOUT_IMAGE", "No image has its name"))
            continue
        label = files[pairs[relative]] if relative in pairs else None
        both = [path] if label is None else [path, label]
        try:
            row = _row_of_image(relative, context, kind)
        except MedsslError as error:
            rejections.append(Rejection(both, error.code, error.what))
            continue
        jobs.append(Job(both, partial(_make_image, kind, path, label, row, context)))
    return jobs, rejections


def _pairs(files: dict[str, Path], tables: Tables) -> dict[str, str]:
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


def _row_of_image(relative: str, context: Context, kind: Kind) -> Row:
    """What the tables say of an image.

    Raises:
        MedsslError: SUBJECT_UNKNOWN where there is a table that does not say.
    """
    dataset = context.tables.of(relative)
    if dataset is not None and dataset.broken:
        raise MedsslError("SUBJECT_UNKNOWN", "The table of its folder could not be used")
    if dataset is None or not dataset.rows:
        return _class_row(relative) if context.class_folders and kind is Kind.PNG else Row()
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


def _make_image(
    kind: Kind, path: Path, label_path: Path | None, row: Row, context: Context
) -> Iterator[Made]:
    read: Callable[[Path], tuple[Array, Array | None]] = (
        read_nifti if kind is Kind.NIFTI else lambda p: (read_png(p), None)
    )
    array, affine = read(path)
    label = None
    if label_path is not None:
        try:
            label, label_affine = (
                read_nifti(label_path)
                if kind is Kind.NIFTI
                else (read_png(label_path, label=True), None)
            )
        except MedsslError as error:
            raise MedsslError(error.code, f"Its label map: {error.what}") from None
        _check_label(array, affine, label, label_affine)
    content = content_hash(array, affine)
    names = context.names
    # Without a table each image is its own subject; by content, so that a copy is the same one.
    subject = row.subject if row.subject is not None else f"image:{content}"
    record = VolumeRecord(
        volume_id=names.volume(content),
        subject_id=names.subject(subject),
        study_id=names.study(content),
        series_id=names.series(content),
        modality=row.modality or context.modality,
        split=row.split,
        labels=row.labels,
        source=kind.value,
    )
    array, record = without_face(array, affine, record, deface=context.deface, allow=context.allow)
    yield Made(record, array, affine, content, label)


def _check_label(array: Array, affine: Array | None, label: Array, other: Array | None) -> None:
    if label.shape[1:] != array.shape[1:]:
        raise MedsslError("LABEL_GRID_MISMATCH", "The label map has another shape")
    if affine is not None and (other is None or not same_grid(affine, other, array.shape[1:])):
        raise MedsslError("LABEL_GRID_MISMATCH", "The label map lies elsewhere than the image")
    values = np.asarray(label, dtype=np.float64)
    if not np.array_equal(values, np.rint(values)) or values.min() < 0 or values.max() > 65535:
        raise MedsslError("LABEL_INVALID", "Label values are whole and 0 to 65535")


def _make_archive(path: Path, context: Context) -> Iterator[Made]:
    """Every image of a MedMNIST archive, each its own subject. 3D arrays get 1 mm voxels and the
    defect AFFINE_INVALID, for the archive states no geometry."""
    digest = file_hash(path)
    names = context.names
    for part in read_medmnist(path):
        volumes = part.images.ndim == 5
        for index, (array, labels) in enumerate(zip(part.images, part.labels, strict=True)):
            key = f"{digest}:{part.split}:{index}"
            record = VolumeRecord(
                volume_id=names.volume(key),
                subject_id=names.subject(f"image:{key}"),
                study_id=names.study(key),
                series_id=names.series(key),
                modality=context.modality,
                split=part.split,
                labels=labels,
                defects=["AFFINE_INVALID"] if volumes else [],
                source="npz",
            )
            # Images of one archive may repeat; the key tells a second copy of the archive.
            yield Made(record, array, np.eye(4) if volumes else None, key)
