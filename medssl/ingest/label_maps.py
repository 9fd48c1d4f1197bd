"""From label objects to the label map of a volume: find them, and draw those of one volume."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from medssl.errors import MedsslError
from medssl.ingest.kinds import LABEL_CLASSES
from medssl.ingest.label_grid import Layer, grid_shape
from medssl.ingest.label_objects import LabelObject, match
from medssl.ingest.rejection import Rejection
from medssl.ingest.resample import resample_label
from medssl.ingest.structures import EVERY, NameRules, number_structures
from medssl.ingest.tags import parsed, text
from medssl.ingest.volume import DicomVolume
from medssl.store.arrays import file_hash

if TYPE_CHECKING:  # few inputs hold label objects, and their readers import pydicom
    from medssl.ingest.dicom_seg import SegReader
    from medssl.ingest.rtstruct import StructureReader

Array = npt.NDArray[Any]

_FIELDS = [one.name for one in fields(LabelObject) if one.name != "path"]


@dataclass(frozen=True)
class Drawn:
    """What became of the label objects of one volume.

    Attributes:
        label: uint16, 0 is background: (1, x, y, z) on the grid of the volume's affine, or (1,
            row, column) for a single slice; None where no object could be used.
        structures: label value of what the volume was annotated for, by name; absent structures
            included.
        defects: codes that were accepted on request.
        fates: path of each object -> its code ("" where it was used) and what else to say.
    """

    label: Array | None
    structures: dict[str, int] = field(default_factory=dict)
    defects: list[str] = field(default_factory=list)
    fates: dict[str, tuple[str, str]] = field(default_factory=dict)


Found = LabelObject | Rejection
ReadLabels = Callable[[Sequence[Path], NameRules], list[Found]]
"""Reads the headers of label objects: files and what the user said of names -> of each file the
object, or why it is none."""


def read_labels(paths: Sequence[Path], rules: NameRules = EVERY) -> list[Found]:
    """Read the headers of label objects. Never raises for what a file holds.

    Args:
        paths: files of the classes of :data:`medssl.ingest.kinds.LABEL_CLASSES`.
        rules: what the user said of names.

    Returns:
        of each file, by path, its object; or a rejection: LABEL_INVALID, FILE_UNREADABLE,
        DICOM_TAG_MISSING, DICOM_TAG_INVALID, LABEL_UNWANTED, SERIES_MIXED (an image under the
        series UID of label objects).
    """
    return [label_object(path, label_header(path, Path(), rules)) for path in sorted(paths)]


def label_header(path: Path, folder: Path, rules: NameRules) -> list[Any]:
    """Read one label object's header, as plain data for :func:`label_object`.

    Args:
        path: the file.
        folder: not used; what every work is given.
        rules: what the user said of names.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they can quote values
            found = _read(path, rules)
    except MedsslError as error:
        return [error.code, error.what]
    return [getattr(found, name) for name in _FIELDS]


def label_object(path: Path, plain: Sequence[Any]) -> Found:
    """The inverse of :func:`label_header`."""
    if len(plain) == 2:
        return Rejection([path], *plain)
    named = {name: _frozen(value) for name, value in zip(_FIELDS, plain, strict=True)}
    return LabelObject(path=path, **named)


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _each_once(found: Iterable[Found]) -> tuple[list[LabelObject], list[Rejection]]:
    """Copies left out (DUPLICATE), and all of one UID where they differ (DUPLICATE_CONFLICT)."""
    rejections = []
    by_uid: dict[str, list[LabelObject]] = {}
    for one in found:
        if isinstance(one, Rejection):
            rejections.append(one)
        else:
            by_uid.setdefault(one.sop_uid, []).append(one)
    kept = []
    for same in by_uid.values():
        if len(same) > 1 and len({file_hash(one.path) for one in same}) > 1:
            text = "Different label objects have one UID"
            files = [one.path for one in same]
            rejections.append(Rejection(files, "DUPLICATE_CONFLICT", text))
            continue
        kept.append(same[0])
        for copy in same[1:]:
            rejections.append(Rejection([copy.path], "DUPLICATE", "a copy of a label object"))
    return kept, rejections


def _read(path: Path, rules: NameRules) -> LabelObject:
    data = parsed(path, stop_before_pixels=True)
    kind = LABEL_CLASSES.get(text(data, "SOPClassUID"))
    if kind is None:
        raise MedsslError("SERIES_MIXED", "One series UID covers images and label objects")
    if not text(data, "SOPInstanceUID"):
        raise MedsslError("DICOM_TAG_MISSING", "SOPInstanceUID is absent")
    if kind == "seg":
        from medssl.ingest.dicom_seg import seg_object

        return seg_object(path, data, rules)
    from medssl.ingest.rtstruct import rtstruct_object

    return rtstruct_object(path, data, rules)


def plan_labels(
    read: Iterable[Found],
    volumes: Sequence[DicomVolume],
    stated: Mapping[int, str],
    beside_maps: bool,
    rules: NameRules,
) -> tuple[dict[int, list[LabelObject]], dict[str, int], list[Rejection]]:
    """Which label objects belong to which volume, and the label value of each structure.

    Args:
        read: what :func:`read_labels` says of each file.
        volumes: all volumes of the input.
        stated: label values that tables or the user named.
        beside_maps: whether the input has label maps in other files too. Their values are not
            known by name, so the value of a structure must then be stated.
        rules: what the user said of names.

    Returns:
        as :func:`medssl.ingest.label_objects.match`, with the values between.

    Raises:
        MedsslError: TABLE_INVALID where two values have the name of one structure.
    """
    objects, rejections = _each_once(read)
    if beside_maps:
        text = "There are label maps in files too: state each structure with --label-name"
        unknown = [found for found in objects if not rules.stated.issuperset(found.structures)]
        rejections += [Rejection([found.path], "LABEL_INVALID", text) for found in unknown]
        objects = [found for found in objects if found not in unknown]
    matched, more = match(objects, volumes)
    used = (name for together in matched.values() for o in together for name in o.structures)
    return matched, number_structures(used, stated), [*rejections, *more]


def draw_labels(
    objects: Sequence[LabelObject],
    volume: DicomVolume,
    values: Mapping[str, int],
    allow: Collection[str] = (),
    rules: NameRules = EVERY,
) -> Drawn:
    """Draw all label objects of a volume into one label map.

    An object that cannot be used is left out whole. Where structures overlap, every object that
    has one of them is, unless LABEL_OVERLAP is allowed: then the name that comes later in the
    order of characters covers the earlier. They are drawn on the volume's slices; where these are
    resampled, the label map is too, by nearest neighbour.

    Args:
        objects: those that :func:`medssl.ingest.label_objects.match` gave the volume.
        volume: their volume.
        values: label value of each structure name, from
            :func:`medssl.ingest.structures.number_structures`.
        allow: LABEL_OVERLAP.
        rules: what the user said of names.
    """
    if not objects:
        return Drawn(None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they can quote values
        return _draw(objects, volume, values, "LABEL_OVERLAP" in allow, rules)


def _draw(
    objects: Sequence[LabelObject],
    volume: DicomVolume,
    values: Mapping[str, int],
    covering: bool,
    rules: NameRules,
) -> Drawn:
    fates: dict[str, tuple[str, str]] = {}
    readers: dict[str, SegReader | StructureReader] = {}
    for found in objects:
        try:
            readers[str(found.path)] = _reader(found, volume, rules)
        except MedsslError as error:
            fates[str(found.path)] = (error.code, error.what)
    while True:
        usable = [found for found in objects if str(found.path) not in fates]
        canvas, failed = _paint(usable, readers, values, grid_shape(volume), covering)
        if not failed:
            break
        fates |= failed
    if not usable:
        return Drawn(None, fates=fates)
    for found in usable:
        fates[str(found.path)] = ("", "; ".join(readers[str(found.path)].notes))
    label = canvas.label[..., 0].T if volume.affine is None else canvas.label
    if volume.original is not None:
        label = resample_label(label, volume.original)
    return Drawn(
        label=label[None],
        structures={name: values[name] for found in usable for name in found.structures},
        defects=["LABEL_OVERLAP"] if canvas.overlaps else [],
        fates=fates,
    )


def _reader(
    found: LabelObject, volume: DicomVolume, rules: NameRules
) -> SegReader | StructureReader:
    if found.kind == "seg":
        from medssl.ingest.dicom_seg import SegReader

        return SegReader(found.path, volume, rules)
    from medssl.ingest.rtstruct import StructureReader

    return StructureReader(found.path, volume, rules)


@dataclass
class _Canvas:
    """The label map on its way: uint16 (x, y, z), and the pairs of names that met in a voxel."""

    label: Array
    overlaps: set[tuple[int, int]] = field(default_factory=set)

    def paint(self, layer: Layer, value: int) -> None:
        plane = self.label[layer.window]
        below = plane[layer.mask]
        self.overlaps.update((int(old), value) for old in np.unique(below[below > 0]))
        plane[layer.mask] = value


def _paint(
    objects: Sequence[LabelObject],
    readers: Mapping[str, SegReader | StructureReader],
    values: Mapping[str, int],
    shape: tuple[int, int, int],
    covering: bool,
) -> tuple[_Canvas, dict[str, tuple[str, str]]]:
    """Paint structure by structure, in the order of their names, each over the earlier; and say
    which objects cannot be used."""
    canvas = _Canvas(np.zeros(shape, dtype=np.uint16))
    failed: dict[str, tuple[str, str]] = {}
    owner = {name: str(found.path) for found in objects for name in found.structures}
    for name, path in sorted(owner.items()):
        if path in failed:
            continue
        try:
            for layer in readers[path].layers(name):
                canvas.paint(layer, values[name])
        except MedsslError as error:
            failed[path] = (error.code, error.what)
    if not failed and not covering:
        values_met = {value for pair in canvas.overlaps for value in pair}
        met = {path for name, path in owner.items() if values[name] in values_met}
        what = "Two structures cover one voxel; --allow LABEL_OVERLAP lets the later name win"
        failed = dict.fromkeys(met, ("LABEL_OVERLAP", what))
    return canvas, failed
