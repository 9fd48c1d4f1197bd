"""Headers whose voxels lie in another file: ``.hdr``/``.img``, ``.mhd``/``.raw``, ``.nhdr``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from medssl.errors import MedsslError
from medssl.ingest.plainvolume import beside, header_bytes
from medssl.ingest.rejection import Rejection
from medssl.ingest.scan import Found, Kind

ANALYZE_ADVICE = "Analyze 7.5 does not say left from right; convert it to NIfTI where that is known"
# A file that is no image by itself: bare voxels, with or without gzip.
_CLAIMABLE = (Kind.OTHER, Kind.BROKEN, Kind.UNSUPPORTED)
_NAMES_IT = {
    Kind.NRRD: re.compile(rb"^data ?file:[ \t]*(.*?)[ \t]*\r?$", re.M | re.I),
    Kind.METAIMAGE: re.compile(rb"^ElementDataFile[ \t]*=[ \t]*(.*?)[ \t]*\r?$", re.M),
}
_WITH_HEADER = (Kind.NIFTI_PAIR, Kind.ANALYZE, Kind.NRRD, Kind.METAIMAGE)


@dataclass(frozen=True)
class Attached:
    """Files with the data files of headers known.

    Attributes:
        found: the same files; one that a header names has ``Kind.DATA``, and a header that cannot
            be used, with its data, ``Kind.REFUSED``.
        data: relative path of a header to that of its data file.
        rejections: those headers and data files, and why.
    """

    found: list[Found]
    data: dict[str, str]
    rejections: list[Rejection]


def attach(found: Sequence[Found]) -> Attached:
    """Find the data file of every header that has its voxels elsewhere.

    A data file must be among the files found, in the header's folder or below, and named by one
    header alone. Nothing else is opened, whatever a header names.
    """
    by_path = {item.relative: item for item in found}
    data: dict[str, str] = {}
    refused: dict[str, MedsslError] = {}
    for item in found:
        if item.kind not in _WITH_HEADER:
            continue
        try:
            name = _data_of(item, by_path)
        except MedsslError as error:
            refused[item.relative] = error
            continue
        if name is not None:
            data[item.relative] = name
    for name, count in Counter(data.values()).items():
        if count > 1:
            text = "Several headers name the same data file"
            twice = MedsslError("DUPLICATE_CONFLICT", text)
            refused.update({header: twice for header, file in data.items() if file == name})
    for item in found:
        if item.kind is Kind.ANALYZE:
            refused[item.relative] = MedsslError("FORMAT_UNSUPPORTED", ANALYZE_ADVICE)
    return _result(found, by_path, data, refused)


def _result(
    found: Sequence[Found],
    by_path: dict[str, Found],
    data: dict[str, str],
    refused: dict[str, MedsslError],
) -> Attached:
    kinds = dict.fromkeys(data.values(), Kind.DATA)
    rejections = []
    for header, error in refused.items():
        file = data.pop(header, None)
        together = [name for name in (header, file) if name and kinds.get(name) != Kind.REFUSED]
        kinds.update(dict.fromkeys(together, Kind.REFUSED))
        paths = [by_path[name].path for name in together]
        rejections.append(Rejection(paths, error.code, error.what))
    changed = [
        replace(item, kind=kinds[item.relative]) if item.relative in kinds else item
        for item in found
    ]
    return Attached(changed, data, rejections)


def _data_of(item: Found, by_path: dict[str, Found]) -> str | None:
    """The data file of one header, or None where the header has its own voxels.

    Raises:
        MedsslError: DATA_FILE_MISSING, FILE_UNREADABLE.
    """
    folder = PurePosixPath(item.relative).parent
    if item.kind in (Kind.NIFTI_PAIR, Kind.ANALYZE):
        return _image_of_pair(item, folder, by_path)
    header = re.split(rb"\n\r?\n", header_bytes(item.path), maxsplit=1)[0]
    named = _NAMES_IT[item.kind].search(header)
    name = "" if named is None else named[1].decode("latin-1")
    # Lists and patterns of files are refused where the header is read.
    if not name or name.lower() == "local" or name.split()[0] == "LIST" or "%" in name:
        return None
    relative = str(folder / beside(name))
    if relative not in by_path or relative == item.relative:
        raise MedsslError("DATA_FILE_MISSING", "The file with the voxels is not there")
    return _claimed(by_path[relative])


def _image_of_pair(item: Found, folder: PurePosixPath, by_path: dict[str, Found]) -> str | None:
    name = PurePosixPath(item.relative).name
    stem = name.lower().removesuffix(".gz")
    if stem.endswith(".hdr"):
        wanted = name[: len(stem) - 4]
        names = {wanted + ending for ending in (".img", ".IMG", ".img.gz", ".IMG.GZ")}
        there = [str(folder / n) for n in sorted(names) if str(folder / n) in by_path]
        if len(there) == 1:
            return _claimed(by_path[there[0]])
    if item.kind is Kind.ANALYZE:
        return None
    raise MedsslError("DATA_FILE_MISSING", "There is no one .img with the voxels of this .hdr")


def _claimed(item: Found) -> str:
    if item.kind not in _CLAIMABLE:
        raise MedsslError("DATA_FILE_MISSING", "The header names a file that is an image itself")
    return item.relative
