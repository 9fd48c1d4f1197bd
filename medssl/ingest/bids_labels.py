"""BIDS file names, and which image a label map belongs to."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from medssl.errors import MedsslError
from medssl.ingest.scan import Found, Kind

LABEL_SUFFIXES = ("mask", "dseg", "roi")
_NAME = re.compile(r"(?:[A-Za-z0-9]+-[A-Za-z0-9+]+_)+[A-Za-z0-9]+")
# Entities that a label map has beside those of its image.
_OF_LABELS = frozenset({"desc", "label", "space", "atlas", "seg"})
_NATIVE_SPACE = "orig"
_URI = re.compile(r"^bids:[^:]*:")


@dataclass(frozen=True)
class BidsImage:
    """An image file in a BIDS tree, by what its folders and its name say.

    ``subject`` and ``session`` are folder names ("sub-01", "ses-1" or ""); ``entities`` are the
    parts of the name ("run": "1"), ``suffix`` its end ("T1w"); ``derived`` marks a derivative.
    """

    item: Found
    root: str
    derived: bool
    subject: str
    session: str
    datatype: str
    entities: dict[str, str]
    suffix: str


def parse_name(item: Found, root: str, roots: dict[str, bool]) -> BidsImage:
    """What the folders and the name of an image say.

    Raises:
        MedsslError: SUBJECT_UNKNOWN where they are not those of BIDS, or contradict each other.
    """
    parts = PurePosixPath(item.relative).relative_to(root or ".").parts
    derived = roots[root]
    if parts[0] == "derivatives":
        derived, parts = True, parts[2:]
    stem = parts[-1].split(".")[0] if parts else ""
    folders = list(parts[:-1])
    if not folders or not folders[0].startswith("sub-") or not _NAME.fullmatch(stem):
        raise MedsslError("SUBJECT_UNKNOWN", "Its place or name in the tree is not that of BIDS")
    *pairs, suffix = stem.split("_")
    entities = dict(pair.split("-") for pair in pairs)
    subject = folders.pop(0)
    session = folders.pop(0) if folders and folders[0].startswith("ses-") else ""
    stated = (f"sub-{entities.get('sub', '')}", entities.get("ses", ""))
    if stated != (subject, session.removeprefix("ses-")) or len(entities) != len(pairs):
        raise MedsslError("SUBJECT_UNKNOWN", "Folder and name do not state the same subject")
    datatype = folders[0] if folders else ""
    return BidsImage(item, root, derived, subject, session, datatype, entities, suffix)


def read_json(item: Found) -> dict[str, Any] | None:
    """A JSON object, or None where the file holds none."""
    try:
        data = json.loads(item.path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def match_labels(
    images: Sequence[BidsImage], found: Sequence[Found]
) -> tuple[dict[str, str], list[tuple[BidsImage, MedsslError]]]:
    """Which label map belongs to which image.

    A sidecar with ``Sources`` or ``RawSources`` decides; else the label map's entities, without
    those that only label maps have. Either way both must lie on one grid.

    Returns:
        image to label map, by relative path; and the label maps that belong to no one image, with
        LABEL_WITHOUT_IMAGE, LABEL_AMBIGUOUS or LABEL_GRID_MISMATCH.
    """
    by_path = {item.relative: item for item in found}
    acquired: dict[tuple[str, str], list[BidsImage]] = {}
    for image in images:
        if not image.derived and image.suffix not in LABEL_SUFFIXES:
            acquired.setdefault((image.subject, image.session), []).append(image)
    owner: dict[str, str] = {}
    refused: list[tuple[BidsImage, MedsslError]] = []
    label_maps = [image for image in images if image.suffix in LABEL_SUFFIXES]
    for label in label_maps:
        nearby = acquired.get((label.subject, label.session), [])
        try:
            owner[label.item.relative] = _image_of(label, nearby, by_path).item.relative
        except MedsslError as error:
            refused.append((label, error))
    count = Counter(owner.values())
    for label in label_maps:
        image_path = owner.get(label.item.relative)
        if image_path is not None and count[image_path] > 1:
            text = "Its image has several label maps"
            refused.append((label, MedsslError("LABEL_AMBIGUOUS", text)))
    return {image: label for label, image in owner.items() if count[image] == 1}, refused


def _image_of(
    label: BidsImage, nearby: Sequence[BidsImage], by_path: dict[str, Found]
) -> BidsImage:
    above = [i for i in nearby if not i.root or label.item.relative.startswith(i.root + "/")]
    sources = _sources(label, by_path)
    if sources:
        fitting = [i for i in above if _below(i.root, i.item.relative) in sources]
    else:
        fitting = [i for i in above if _same_entities(label, i)]
    if not fitting:
        raise MedsslError("LABEL_WITHOUT_IMAGE", "No image has its entities")
    there = [image for image in fitting if _on_one_grid(label.item, image.item)]
    if not there:
        raise MedsslError("LABEL_GRID_MISMATCH", "The label map lies elsewhere than its image")
    if len(there) > 1:
        raise MedsslError("LABEL_AMBIGUOUS", "Several images have its entities and its grid")
    return there[0]


def _sources(label: BidsImage, by_path: dict[str, Found]) -> set[str]:
    """What the label map's sidecar says it was made from, relative to the raw data's root."""
    place = PurePosixPath(label.item.relative)
    sidecar = by_path.get(str(place.with_name(place.name.split(".")[0] + ".json")))
    said = (read_json(sidecar) if sidecar is not None else None) or {}
    stated: set[str] = set()
    for key in ("Sources", "RawSources"):
        value = said.get(key, [])
        names = [value] if isinstance(value, str) else value if isinstance(value, list) else []
        stated.update(_URI.sub("", name) for name in names if isinstance(name, str))
    return stated


def _below(root: str, relative: str) -> str:
    return relative.removeprefix(root + "/") if root else relative


def _same_entities(label: BidsImage, image: BidsImage) -> bool:
    space = label.entities.get("space", _NATIVE_SPACE)
    own = {key: value for key, value in label.entities.items() if key not in _OF_LABELS}
    native = space in (_NATIVE_SPACE, image.suffix)
    return own == image.entities and label.datatype == image.datatype and native


def _on_one_grid(one: Found, two: Found) -> bool:
    """Only NIfTI is compared; another kind, or a header that cannot be read, lies nowhere."""
    if one.kind is not Kind.NIFTI or two.kind is not Kind.NIFTI:
        return False
    from medssl.ingest.nifti import read_grid, same_grid

    try:
        (shape, affine), (other_shape, other) = read_grid(one.path), read_grid(two.path)
    except (MedsslError, OSError):
        return False
    return shape == other_shape and same_grid(affine, other, shape)
