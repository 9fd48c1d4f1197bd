"""What ingest passes around: a job per volume (or per archive), and what is read for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy.typing as npt

from medssl.ingest.scan import Kind
from medssl.ingest.tables import Row
from medssl.ingest.volume import DicomVolume
from medssl.store.records import LabelValue

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Rejection:
    """Files that were refused together, and why. ``detail`` holds no identifiers."""

    files: list[Path]
    code: str
    detail: str


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
    part: str = ""
    whole: str = ""


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
        label: the label map of an image; its files are the last of ``files``.
    """

    kind: Kind
    files: list[Path]
    duplicates: list[Path] = field(default_factory=list)
    row: Row = field(default_factory=Row)
    volumes: tuple[DicomVolume, ...] = ()
    label: ImageFile | None = None
