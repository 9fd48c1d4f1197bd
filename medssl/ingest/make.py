"""Reading the images of a job and writing their arrays, in a process of its own."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.ma  # numpy.unique imports it: once here, or else in every child
import numpy.typing as npt

from medssl.errors import Exit, MedsslError
from medssl.ingest.burned_in import text_defects
from medssl.ingest.deface import without_face
from medssl.ingest.dicom import same_pixels
from medssl.ingest.face import FaceState
from medssl.ingest.headers import SliceHeader
from medssl.ingest.isolate import caught
from medssl.ingest.jobs import Drawing, Job, Picture
from medssl.ingest.journal import Item
from medssl.ingest.label_maps import Found, label_header, label_object
from medssl.ingest.pool import Pool, run_items
from medssl.ingest.rejection import Rejection
from medssl.ingest.scan import Kind
from medssl.ingest.structures import NameRules
from medssl.ingest.survey import Survey
from medssl.ingest.volume import DicomVolume
from medssl.store.arrays import file_hash
from medssl.store.written import Written, write_volume

Array = npt.NDArray[Any]

_BYTES_A_SECOND = 100_000  # of an archive: very many small pictures, each to be searched for text


def make(keyed: tuple[str, Job], folder: Path) -> dict[str, Any]:
    """Write the volumes of a job.

    Args:
        keyed: a name for its files, and the job.
        folder: where they go.

    Returns:
        ``made``: for each image what :func:`_entry` says, or its ``error``; and ``error``: what
        ended the job, or None.

    Raises:
        MedsslError: DISK_FULL.
    """
    key, job = keyed
    stem = f"{key}-{secrets.token_hex(4)}"  # see Journal.new
    made: list[dict[str, Any]] = []

    def read_all() -> None:
        for number, picture in enumerate(read(job)):
            try:
                made.append(_entry(folder, f"{stem}-{number}", _searched(picture, job)))
            except MedsslError as error:
                made.append({"error": [error.code, error.what]})

    _, error = caught(read_all)
    if error is not None and error.exit_code is not Exit.SOME_REJECTED:
        raise error
    return {"made": made, "error": None if error is None else [error.code, error.what]}


def _entry(folder: Path, stem: str, picture: Picture) -> dict[str, Any]:
    written = write_volume(
        folder, stem, picture.array, picture.affine, picture.label, picture.pixel_spacing
    )
    return {
        "written": asdict(written),
        "content": picture.key or _content(written, picture.affine is not None),
        "split": picture.split,
        "labels": picture.labels,
        "defects": picture.defects,
        "structures": picture.structures,
        "fates": picture.fates,
        "face": picture.face,
        "deface": picture.deface,
        "part": picture.part,
        "whole": picture.whole,
    }


def _content(written: Written, placed: bool) -> str:
    """What is the same for the same voxels at the same place, in any dtype or order of axes."""
    digest = sha256(str(written.columns["sha256"]).encode())
    if placed:
        # Affines are known to float32 in NIfTI; rounded so that the same place hashes the same.
        digest.update(np.round(written.columns["affine"], 3).astype("<f8").tobytes())
    return digest.hexdigest()


def read(job: Job) -> Iterator[Picture]:
    """Read every image of a job, one after the other.

    Raises:
        MedsslError: what the reader of its kind of file raises.
    """
    if job.kind is Kind.DICOM:
        return _read_dicom(job)
    if job.kind is Kind.NPZ:
        return _read_archive(job.files[0])
    return _read_image(job)


def _read_dicom(job: Job) -> Iterator[Picture]:
    from medssl.ingest.colour import FrameReader

    reader, drawing, faces = FrameReader(), job.drawing, _Faces(job)
    for number, volume in enumerate(job.volumes):
        spacing = volume.pixel_spacing if volume.dims == 2 else None
        array = volume.decode(reader)
        text = text_defects(
            array,
            volume.modality,
            derived="DERIVED" in volume.defects,
            flagged=dict(volume.facts).get("BurnedInAnnotation", "").upper() == "YES",
            allow=job.allow,
        )
        picture = Picture(array, volume.affine, pixel_spacing=spacing, defects=text)
        part = dict(volume.facts).get("BodyPartExamined", "")
        picture = faces.told(picture, volume.modality, part)
        yield picture if drawing is None else _with_labels(picture, volume, number, drawing)


class _Faces:
    """Looks for faces in the volumes of a job: the times of one series are of one head."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._known: dict[object, FaceState | None] = {}

    def told(self, picture: Picture, modality: str, body_part: str = "") -> Picture:
        """The same with what is known of its face, or without it."""
        if picture.affine is None:
            return picture
        grid = (picture.array.shape, picture.affine.tobytes())
        array, seen = without_face(
            picture.array,
            picture.affine,
            modality,
            body_part,
            deface=self._job.deface,
            allow=self._job.allow,
            before=self._known.get(grid),
        )
        self._known[grid] = seen.known
        defects = [*picture.defects, *seen.defects]
        return replace(picture, array=array, defects=defects, face=seen.face, deface=seen.deface)


def _with_labels(picture: Picture, volume: DicomVolume, number: int, drawing: Drawing) -> Picture:
    from medssl.ingest.label_maps import draw_labels

    objects = drawing.objects[number]
    drawn = draw_labels(objects, volume, drawing.values, drawing.allow, drawing.rules)
    return replace(
        picture,
        label=drawn.label,
        defects=[*picture.defects, *drawn.defects],
        structures=drawn.structures,
        fates=drawn.fates,
    )


def _read_image(job: Job) -> Iterator[Picture]:
    from medssl.ingest.formats import read_images, read_label

    label: tuple[Array, Array | None] | None = None
    files = job.files
    if job.label is not None:
        files = files[: -len(job.label.files)]
        try:
            label = read_label(job.label.kind, job.label.files)
        except MedsslError as error:
            raise MedsslError(error.code, f"Its label map: {error.what}") from None
    faces = _Faces(job)
    for picture in read_images(job.kind, files, job.row.channels):
        if label is not None:
            _check_label(picture.array, picture.affine, *label)
        yield faces.told(replace(picture, label=label and label[0]), job.modality)


def _searched(picture: Picture, job: Job) -> Picture:
    """Look for text in a picture of any file but DICOM, whose headers say more and are asked first.

    Raises:
        MedsslError: BURNED_IN_TEXT, at the cost of this one picture.
    """
    if picture.affine is not None or job.kind is Kind.DICOM:
        return picture
    text = text_defects(picture.array, job.modality, allow=job.allow)
    return replace(picture, defects=[*picture.defects, *text])


def _check_label(array: Array, affine: Array | None, label: Array, other: Array | None) -> None:
    from medssl.ingest.nifti import same_grid

    if label.shape[1:] != array.shape[1:]:
        raise MedsslError("LABEL_GRID_MISMATCH", "The label map has another shape")
    if affine is not None and (other is None or not same_grid(affine, other, array.shape[1:])):
        raise MedsslError("LABEL_GRID_MISMATCH", "The label map lies elsewhere than the image")
    values = np.asarray(label, dtype=np.float64)
    if not np.array_equal(values, np.rint(values)) or values.min() < 0 or values.max() > 65535:
        raise MedsslError("LABEL_INVALID", "Label values are whole and 0 to 65535")


def _read_archive(path: Path) -> Iterator[Picture]:
    """Every image of a MedMNIST archive. 3D arrays get 1 mm voxels, for it states no geometry."""
    from medssl.ingest.images import read_medmnist

    digest = file_hash(path)
    for part in read_medmnist(path):
        affine = np.eye(4) if part.images.ndim == 5 else None
        for index, (array, labels) in enumerate(zip(part.images, part.labels, strict=True)):
            # Images of one archive may repeat; the key tells a second copy of the archive.
            key = f"{digest}:{part.split}:{index}"
            yield Picture(array, affine, key=key, split=part.split, labels=labels)


def item_of(job: Job, seen: Survey) -> Item:
    """A job as work, known by its files and what is made of them."""
    drawn = [] if job.drawing is None else job.drawing.paths
    of_label = 0 if job.label is None else len(job.label.files)
    files = map(seen.keys.__getitem__, [*job.files, *drawn])
    text = "|".join([job.kind, job.modality, *files, f"{of_label}:{job.row.channels}"])
    if job.drawing is not None:
        text += f"|{job.drawing.values}|{sorted(job.drawing.rules.only)}"
    for volume in job.volumes:
        slices = ",".join(f"{seen.keys[h.path]}:{h.frame}:{h.tile}" for h in volume.headers)
        text += f"|{volume.part}|{slices}|{volume.affine}|{volume.resampled}"
    key = sha256(text.encode()).hexdigest()[:32]
    count = len(job.files) + len(drawn)
    if job.kind is Kind.NPZ:  # as many files, each of which has a second
        count += job.files[0].stat().st_size // _BYTES_A_SECOND
    return Item(key, (key, job), count)


def same_in_a_process(folder: Path, pool: Pool, one: SliceHeader, two: SliceHeader) -> bool:
    """Compare two slices in a process of its own.

    Raises:
        MedsslError: what reading them raises.
    """
    status = [(path.stat().st_size, path.stat().st_mtime_ns) for path in (one.path, two.path)]
    text = f"{one.sop_uid} {one.frame} {one.tile} {one.path} {two.path} {status}"
    key = sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
    item = Item(key, (one, two), 2)
    ((_, answer),) = run_items(_compare, [item], folder, pool)
    if answer.error is not None:
        raise MedsslError(*answer.error)
    return bool(answer.value)


def _compare(pair: tuple[SliceHeader, SliceHeader], folder: Path) -> bool:
    return same_pixels(*pair)


def read_labels_in_a_process(
    folder: Path, pool: Pool, seen: Survey, paths: Sequence[Path], rules: NameRules
) -> list[Found]:
    """As :func:`medssl.ingest.label_maps.read_labels`, several at a time."""
    said = sha256(f"{sorted(rules.stated)}{sorted(rules.only)}".encode()).hexdigest()[:8]
    items = [Item(seen.keys[path] + said, path) for path in sorted(paths)]
    found: list[Found] = []
    for item, answer in run_items(partial(label_header, rules=rules), items, folder, pool):
        if answer.error is not None:
            found.append(Rejection([item.payload], *answer.error))
        else:
            found.append(label_object(item.payload, answer.value))
    return found
