"""What is written of a volume, of an input file, and of the store as a whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pydantic import Field

from medssl.config import StrictModel

FORMAT_VERSION = 1
LABEL_PREFIX = "label:"
PAGE_NAME = "ingest.html"
"""A page to look at; no part of what is verified."""

LabelValue = float | int | str | None


class Outcome(StrEnum):
    """What became of an input file."""

    USED = "used"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"
    IGNORED = "ignored"


@dataclass(frozen=True)
class LedgerRow:
    """One input file: its pseudonymous path, what became of it, and why; and which ingest into the
    store that was, 1 for the first."""

    path: str
    outcome: Outcome
    code: str = ""
    detail: str = ""
    volume_id: str = ""
    batch: int = 1


@dataclass(frozen=True)
class VolumeRecord:
    """What ingest knows of a volume beside its voxels; every id is a pseudonym.

    ``modality`` is the DICOM code ("CT", "MR", "CR", ...; "OT" where unknown); ``split`` is
    "train", "validation", "test" or ""; ``labels`` become the columns ``label:NAME``; ``defects``
    are the codes that were accepted on request; ``source`` is the kind of file it came from;
    ``part`` tells it from the other volumes of its series ("temporal_position=3/151"); ``content``
    is the same for the same voxels at the same place; ``labelled`` are the label values that it was
    annotated for, empty where that is not stated. A volume that was resampled says why in
    ``resampled`` ("tilt 12.50 degrees"); ``source_affine``, ``source_shape`` and
    ``source_positions`` are those of its :class:`medssl.store.original.OriginalGrid`. They are
    empty where it was not. Volumes of one ``frame_id`` lie in one frame of reference.
    ``study_date`` is an ISO date, moved by days of its subject's own;
    ``scanner`` and ``site`` are pseudonyms (``site`` may be a word that the user stated);
    ``manufacturer``, ``model``, ``body_part`` and ``description`` are words of fixed lists. All of
    these are "" where unknown. ``face`` is "visible", "removed", "none" or "unknown", empty for 2D;
    ``deface`` is the method that removed it and how much of the head it took ("v1 14.2 %").
    """

    volume_id: str
    subject_id: str
    study_id: str
    series_id: str
    modality: str
    split: str = ""
    labels: dict[str, LabelValue] = field(default_factory=dict)
    defects: list[str] = field(default_factory=list)
    source: str = "nifti"
    part: str = ""
    content: str = ""
    labelled: list[int] = field(default_factory=list)
    resampled: str = ""
    source_affine: list[float] = field(default_factory=list)
    source_shape: list[int] = field(default_factory=list)
    source_positions: list[float] = field(default_factory=list)
    frame_id: str = ""
    study_date: str = ""
    manufacturer: str = ""
    model: str = ""
    scanner: str = ""
    site: str = ""
    body_part: str = ""
    description: str = ""
    face: str = ""
    deface: str = ""


class StoreInfo(StrictModel):
    """``store.json``: the format, the orientation contract, label names, how it was made, and how
    each later ingest added to it, and how it was de-identified
    (:func:`medssl.ingest.profile.deidentification`)."""

    format_version: int = FORMAT_VERSION
    orientation: str = "RAS"
    label_names: dict[int, str] = Field(default_factory=dict)
    made_by: dict[str, Any] = Field(default_factory=dict)
    added_by: list[dict[str, Any]] = Field(default_factory=list)
    deidentification: dict[str, Any] = Field(default_factory=dict)
