"""What is written of a volume, of an input file, and of the store as a whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pydantic import Field

from medssl.config import StrictModel

FORMAT_VERSION = 1
LABEL_PREFIX = "label:"

LabelValue = float | int | str | None


class Outcome(StrEnum):
    """What became of an input file."""

    USED = "used"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"
    IGNORED = "ignored"


@dataclass(frozen=True)
class LedgerRow:
    """One input file: its pseudonymous path, what became of it, and why."""

    path: str
    outcome: Outcome
    code: str = ""
    detail: str = ""
    volume_id: str = ""


@dataclass(frozen=True)
class VolumeRecord:
    """What ingest knows of a volume beside its voxels; every id is a pseudonym.

    ``modality`` is the DICOM code ("CT", "MR", "CR", ...; "OT" where unknown); ``split`` is
    "train", "validation", "test" or ""; ``labels`` become the columns ``label:NAME``; ``defects``
    are the codes that were accepted on request; ``source`` is the kind of file it came from;
    ``part`` tells it from the other volumes of its series ("temporal_position=3/151"). ``face`` is
    "visible", "removed", "none" or "unknown", empty for 2D; ``deface`` is the method that removed
    it and how much of the head it took ("v1 14.2 %").
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
    face: str = ""
    deface: str = ""


class StoreInfo(StrictModel):
    """``store.json``: the format, the orientation contract, label names, and how it was made."""

    format_version: int = FORMAT_VERSION
    orientation: str = "RAS"
    label_names: dict[int, str] = Field(default_factory=dict)
    made_by: dict[str, Any] = Field(default_factory=dict)
