"""What ingest passes around: a job per volume (or per archive), and what it makes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.store import Outcome, VolumeRecord

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Rejection:
    """Files that were refused together, and why. ``detail`` holds no identifiers."""

    files: list[Path]
    code: str
    detail: str

    @property
    def outcome(self) -> Outcome:
        """Not all that is left out is rejected: copies are duplicates, and some is ignored."""
        if self.code in ("NOT_AN_IMAGE", "LABEL_UNWANTED"):
            return Outcome.IGNORED
        return Outcome.DUPLICATE if self.code == "DUPLICATE" else Outcome.REJECTED


@dataclass(frozen=True)
class Made:
    """One volume, ready to be written.

    Attributes:
        record: its pseudonyms and labels.
        array: (channel, x, y, z) with ``affine``, or (channel, row, column) without.
        affine: 4x4, voxel to RAS mm; None for 2D.
        content: what is the same for the same image under another name.
        label: label map on the same grid, channel first, or None.
        pixel_spacing: of a 2D image, mm between rows and between columns; None where unknown.
        structures: label value of each structure that its label objects annotate, by name.
        fates: path of each label object of its -> code ("" where it was used) and detail.
    """

    record: VolumeRecord
    array: Array
    affine: Array | None
    content: str
    label: Array | None = None
    pixel_spacing: tuple[float, float] | None = None
    structures: dict[str, int] = field(default_factory=dict)
    fates: dict[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def meaning(self) -> tuple[object, ...]:
        """What two files with the same voxels must agree on to be duplicates."""
        record = self.record
        label = None if self.label is None else self.label.astype(np.int64).tobytes()
        digest = "" if label is None else hashlib.sha256(label).hexdigest()
        return record.subject_id, record.split, tuple(sorted(record.labels.items())), digest


@dataclass(frozen=True)
class Job:
    """Work on some files that belong together.

    Attributes:
        files: what the volume is made of.
        duplicates: files that say the same again.
        make: reads them; raises MedsslError for what it refuses.
        isolated: read in a process of its own.
        labels: label objects that it draws.
        fallback: the same without its label objects, to be done where it crashed.
    """

    files: list[Path]
    make: Callable[[], Iterable[Made]]
    duplicates: list[Path] = field(default_factory=list)
    isolated: bool = False
    labels: list[Path] = field(default_factory=list)
    fallback: Job | None = None


def content_hash(array: Array, affine: Array | None) -> str:
    """SHA-256 over values, shape and affine; the same for the same values in any dtype."""
    digest = hashlib.sha256(str(array.shape).encode())
    whole = np.issubdtype(array.dtype, np.integer) or np.array_equal(array, np.rint(array))
    digest.update(np.asarray(array, dtype="<i8" if whole else "<f8").tobytes())
    if affine is not None:
        # Affines are known to float32 in NIfTI; rounded so that the same place hashes the same.
        digest.update(np.asarray(np.round(affine, 3) + 0.0, dtype="<f8").tobytes())
    return digest.hexdigest()
