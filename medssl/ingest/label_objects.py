"""Label objects (DICOM SEG, RTSTRUCT) and the volumes they were drawn on. Pure functions, no files.

An object belongs to the one volume that has the images it names, by SOP Instance UID (and frame),
if series, patient and frame of reference agree too. Where that is none or several, the object is
refused and the image is used without it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medssl.errors import MedsslError
from medssl.ingest.rejection import Rejection
from medssl.ingest.volume import DicomVolume

WHOLE = -1
"""In place of a frame: the image of one frame, or all frames."""


@dataclass(frozen=True)
class LabelObject:
    """What the header of a SEG or an RTSTRUCT says. UIDs and PatientID are the real ones.

    Attributes:
        kind: "seg" or "rtstruct".
        frame_uids: frames of reference that its structures lie in.
        series: SeriesInstanceUIDs that it refers to; may be empty.
        images: SOPInstanceUIDs that it refers to, each with a frame counted from 0, or
            :data:`WHOLE`.
        structures: names of what it annotates, empty structures included; sorted, each once.
    """

    path: Path
    kind: str
    sop_uid: str
    patient_id: str
    frame_uids: tuple[str, ...]
    series: tuple[str, ...]
    images: tuple[tuple[str, int], ...]
    structures: tuple[str, ...]


def match(
    objects: Sequence[LabelObject], volumes: Sequence[DicomVolume]
) -> tuple[dict[int, list[LabelObject]], list[Rejection]]:
    """Find the volume of each object.

    Returns:
        the objects of each volume that has any, by its index in ``volumes``; and the objects that
        were refused: LABEL_WITHOUT_IMAGE (no volume has its images, or another patient's has),
        LABEL_AMBIGUOUS (several volumes have), LABEL_GRID_MISMATCH (another frame of reference),
        DUPLICATE_CONFLICT (another object has the same structure of the same volume).
    """
    where: dict[str, dict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
    of_series: dict[str, set[int]] = defaultdict(set)
    for index, volume in enumerate(volumes):
        of_series[volume.series_uid].add(index)
        for header in volume.headers:
            where[header.sop_uid][header.frame].add(index)
    matched: dict[int, list[LabelObject]] = defaultdict(list)
    rejections = []
    for found in objects:
        try:
            index = _one_volume(found, where, of_series)
            _check_agreement(found, volumes[index])
            matched[index].append(found)
        except MedsslError as error:
            rejections.append(Rejection([found.path], error.code, error.what))
    for index, together in list(matched.items()):
        matched[index], twice = _without_versions(together)
        rejections += twice
    return {index: together for index, together in matched.items() if together}, rejections


def _one_volume(
    found: LabelObject,
    where: dict[str, dict[int, set[int]]],
    of_series: dict[str, set[int]],
) -> int:
    candidates: set[int] = set()
    for uid, frame in found.images:
        frames = where.get(uid, {})
        hits = frames.values() if frame == WHOLE else [frames.get(frame, set())]
        candidates.update(*hits)
    stated = set().union(*(of_series.get(uid, set()) for uid in found.series))
    if not found.images:
        candidates = stated
    elif found.series and candidates and not candidates & stated:
        raise MedsslError("LABEL_WITHOUT_IMAGE", "Its images are of another series than it states")
    elif found.series:
        candidates &= stated
    if not candidates:
        raise MedsslError("LABEL_WITHOUT_IMAGE", "No volume has the images that it refers to")
    if len(candidates) > 1:
        raise MedsslError(
            "LABEL_AMBIGUOUS", f"It refers to images of {len(candidates)} volumes at once"
        )
    return candidates.pop()


def _check_agreement(found: LabelObject, volume: DicomVolume) -> None:
    """UIDs are unique in the world: where patient or frame of reference differ, something is off.

    A label object may leave both out; the images are certain without.
    """
    if found.patient_id and found.patient_id != volume.patient_id:
        raise MedsslError("LABEL_WITHOUT_IMAGE", "Its images are of another patient")
    if any(uid and uid != volume.headers[0].frame_uid for uid in found.frame_uids):
        raise MedsslError("LABEL_GRID_MISMATCH", "It lies in another frame of reference")


def _without_versions(objects: list[LabelObject]) -> tuple[list[LabelObject], list[Rejection]]:
    """Refuse every object that shares a structure with another of the same volume."""
    holders: dict[str, int] = defaultdict(int)
    for found in objects:
        for name in found.structures:
            holders[name] += 1
    kept, rejections = [], []
    for found in objects:
        count = sum(holders[name] > 1 for name in found.structures)
        if count:
            text = f"Another label object of the image has {count} of its structures too"
            rejections.append(Rejection([found.path], "DUPLICATE_CONFLICT", text))
        else:
            kept.append(found)
    return kept, rejections
