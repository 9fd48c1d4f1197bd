"""What ingest passes around: a job per volume (or per archive), and what is read for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy.typing as npt

from medssl.ingest.label_objects import LabelObject
from medssl.ingest.scan import Kind
from medssl.ingest.structures import NameRules
from medssl.ingest.tables import Row
from medssl.ingest.volume import DicomVolume
from medssl.store.records import LabelValue

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Picture:
    """One volume or 2D image as it was read.

    Attributes:
        array: (channel, x, y, z) with ``affine``, or (channel, row, column) without.
        affine: 4x4, voxel to RAS mm; None for 2D.
        label: label map on the same grid, channel first, or None.
        pixel_spacing: of a 2D image, mm between rows and between columns; None where unknown.
        key: what it is known by where its voxels alone must not tell, as in an archive whose
            images may repeat.
        split: "train", "validation", "test" or "", where its own file says.
        labels: of the whole image, where its own file says.
        defects: codes that were accepted on request while reading it.
        structures: label value of each structure that its label objects annotate, by name.
        fates: path of each label object of its -> code ("" where it was used) and detail.
        face: of a 3D volume, whether it shows one: see :mod:`medssl.ingest.face`.
        deface: how it was removed, "" where it was not.
        part: what tells it from the others of its file, such as "time=3/151"; empty for the only
            one.
        whole: the same for all images of one file, and for those of its copies; empty for the
            only one.
    """

    array: Array
    affine: Array | None
    label: Array | None = None
    pixel_spacing: tuple[float, float] | None = None
    key: str = ""
    split: str = ""
    labels: dict[str, LabelValue] = field(default_factory=dict)
    defects: list[str] = field(default_factory=list)
    structures: dict[str, int] = field(default_factory=dict)
    fates: dict[str, tuple[str, str]] = field(default_factory=dict)
    face: str = ""
    deface: str = ""
    part: str = ""
    whole: str = ""


@dataclass(frozen=True)
class Drawing:
    """The label objects of a DICOM job, and how to draw them.

    Attributes:
        objects: of each of its volumes.
        values: label value of each structure, by name.
        rules: what the user said of names.
        allow: codes of defects to accept.
    """

    objects: tuple[tuple[LabelObject, ...], ...]
    values: dict[str, int]
    rules: NameRules
    allow: frozenset[str]

    @property
    def paths(self) -> list[Path]:
        """The files of the objects."""
        return [found.path for together in self.objects for found in together]


@dataclass(frozen=True)
class ImageFile:
    """An image or label map: its kind, and its file with that of its voxels, if another."""

    kind: Kind
    files: list[Path]


@dataclass(frozen=True)
class Job:
    """Work on some files that belong together. Plain data: another process reads them.

    Attributes:
        kind: of the files.
        files: what the volumes are made of.
        duplicates: files that say the same again.
        row: what the tables say of it.
        volumes: of a DICOM series.
        modality: of an image that states none.
        allow: codes of defects to accept.
        deface: whether to remove faces.
        drawing: its label objects, if it has any.
        label: the label map of an image; its files are the last of ``files``.
        labelled: label values that the tables say it was annotated for.
    """

    kind: Kind
    files: list[Path]
    duplicates: list[Path] = field(default_factory=list)
    row: Row = field(default_factory=Row)
    volumes: tuple[DicomVolume, ...] = ()
    modality: str = ""
    allow: tuple[str, ...] = ()
    deface: bool = False
    drawing: Drawing | None = None
    label: ImageFile | None = None
    labelled: tuple[int, ...] = ()
