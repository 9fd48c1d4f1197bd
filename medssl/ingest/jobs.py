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
        defects: codes that were accepted of its pixels.
    """

    array: Array
    affine: Array | None
    label: Array | None = None
    pixel_spacing: tuple[float, float] | None = None
    key: str = ""
    split: str = ""
    labels: dict[str, LabelValue] = field(default_factory=dict)
    defects: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Job:
    """Work on some files that belong together. Plain data: another process reads them.

    Attributes:
        kind: of the files.
        files: what the volumes are made of; the image and then its label map.
        duplicates: files that say the same again.
        row: what the tables say of it.
        volumes: of a DICOM series.
        modality: of an image that states none.
        allow: codes of defects to accept.
    """

    kind: Kind
    files: list[Path]
    duplicates: list[Path] = field(default_factory=list)
    row: Row = field(default_factory=Row)
    volumes: tuple[DicomVolume, ...] = ()
    modality: str = ""
    allow: tuple[str, ...] = ()
