"""Walk a folder and tell what each file is by its content, never by its name."""

from __future__ import annotations

import gzip
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from medssl.errors import MedsslError
from medssl.ingest.bounded import Bounded
from medssl.ingest.opening import Opening, read_opening

HEAD_BYTES = 352
NIFTI1_HEADER, NIFTI2_HEADER = 348, 540

# Value representations of DICOM PS3.5 section 6.2, to recognise a file without the DICM mark.
_VRS = frozenset(
    b"AE AS AT CS DA DS DT FL FD IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN "
    b"UR US UT UV".split()
)
IMAGE_SUFFIXES = (
    ".dcm", ".dicom", ".ima", ".nii", ".nii.gz", ".png", ".npz", ".nrrd", ".nhdr", ".mha", ".mhd",
    ".jpg", ".jpeg", ".tif", ".tiff", ".zip", ".tar", ".tgz", ".tar.gz",
)  # fmt: skip
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
)
_KINDS: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"NRRD000", "nrrd"),
    (b"ObjectType", "metaimage"),
    (b"NDims", "metaimage"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
    (b"II+\x00", "tiff"),  # BigTIFF
    (b"MM\x00+", "tiff"),
)
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_TAR = b"ustar"  # at byte 257
_APPLE_DOUBLE = b"\x00\x05\x16\x07"
# Media Storage SOP Class UID (0002,0002), explicit little-endian: Media Storage Directory Storage.
_DICOMDIR = b"\x02\x00\x02\x00UI\x14\x001.2.840.10008.1.3.10"


class Kind(StrEnum):
    """What a file is."""

    DICOM = "dicom"
    DICOMDIR = "dicomdir"  # lists the files of a medium
    NIFTI = "nifti"
    NIFTI_PAIR = "nifti_pair"  # the .hdr of a pair
    ANALYZE = "analyze"  # the .hdr
    NRRD = "nrrd"
    METAIMAGE = "metaimage"
    PNG = "png"
    JPEG = "jpeg"
    TIFF = "tiff"
    NPZ = "npz"
    ZIP = "zip"
    TAR = "tar"  # with or without gzip
    DATA = "data"  # the voxels of a header in another file; `detached` says which
    REFUSED = "refused"  # a header, or its data, that cannot be used; `detached` says why
    TABLE = "table"  # .csv or .json; whether it is one of ours is for `tables` to say
    UNSUPPORTED = "unsupported"  # an image or archive that is not read yet
    BROKEN = "broken"  # named like an image, or empty, and not one
    LINK = "link"  # a symbolic link that is not followed
    OTHER = "other"


PICTURES = (Kind.PNG, Kind.JPEG, Kind.TIFF)
IMAGE_KINDS = (Kind.NIFTI, Kind.NIFTI_PAIR, Kind.NRRD, Kind.METAIMAGE, *PICTURES)
"""Kinds of files that are an image each, or several of one subject."""
ARCHIVES = (Kind.ZIP, Kind.TAR)


@dataclass(frozen=True)
class Found:
    """A file below IN.

    Attributes:
        path: where it is.
        relative: its path relative to IN, with ``/``. It may hold identifiers: for the private
            ledger only.
        kind: what it is.
        note: what is special about it, free of identifiers.
    """

    path: Path
    relative: str
    kind: Kind
    note: str = ""


@dataclass(frozen=True)
class Listed:
    """A file below IN that nobody has looked into yet.

    Attributes:
        path: where it is.
        relative: its path relative to IN, with ``/``.
        size: in bytes.
        modified: when it was changed, nanoseconds.
        link: why it is a link that is not followed, or "".
    """

    path: Path
    relative: str
    size: int = 0
    modified: int = 0
    link: str = ""


def scan(root: Path) -> list[Found]:
    """List every file below ``root``, sorted by relative path, with its kind.

    Links to folders are not followed, nor links that lead out of ``root``: each is listed as
    ``Kind.LINK``. A link to a file inside ``root`` is listed as that file.

    Raises:
        MedsslError: INPUT_MISSING where ``root`` is not there.
    """
    return [
        Found(item.path, item.relative, Kind.LINK, item.link)
        if item.link
        else Found(item.path, item.relative, *sniff(item.path))
        for item in walk(root)
    ]


def walk(root: Path) -> list[Listed]:
    """List every file below ``root``, sorted by relative path, without opening any.

    Raises:
        MedsslError: INPUT_MISSING where ``root`` is not there.
    """
    if not root.exists():
        raise MedsslError("INPUT_MISSING", "The input folder does not exist", where="IN")
    if root.is_file():
        status = root.stat()
        return [Listed(root, root.name, status.st_size, status.st_mtime_ns)]
    base = root.resolve()
    return sorted(_below(str(base), "", base), key=lambda item: item.relative)


def _below(folder: str, relative: str, base: Path) -> Iterator[Listed]:
    try:
        entries = list(os.scandir(folder))
    except OSError:
        yield Listed(Path(folder), relative)  # what it holds is not known: it will be broken
        return
    for entry in entries:
        name = f"{relative}/{entry.name}" if relative else entry.name
        if entry.is_dir(follow_symlinks=False):
            yield from _below(entry.path, name, base)
        else:
            yield _listed(entry, name, base)


def _listed(entry: os.DirEntry[str], relative: str, base: Path) -> Listed:
    path = Path(entry.path)
    if entry.is_symlink():
        target = path.resolve()
        if not target.is_relative_to(base):
            return Listed(path, relative, link="a link that leads out of the input")
        if target.is_dir():
            return Listed(path, relative, link="a link to a folder")
    try:
        status = entry.stat()
    except OSError:
        return Listed(path, relative)
    return Listed(path, relative, status.st_size, status.st_mtime_ns)


def sniff(path: Path) -> tuple[Kind, str]:
    """The kind of one file by its first bytes, and a note free of identifiers."""
    return opened(path)[:2]


def opened(path: Path) -> tuple[Kind, str, Opening | None]:
    """As :func:`sniff`, and the first bytes of what could be opened."""
    try:
        mode = path.stat().st_mode
    except OSError:
        mode = 0
    if stat.S_ISDIR(mode):
        return Kind.BROKEN, "a folder that cannot be opened", None
    if not stat.S_ISREG(mode):
        return Kind.OTHER, "not a regular file", None
    try:
        opening = read_opening(path)
    except OSError:
        return Kind.BROKEN, "cannot be opened", None
    return *_by_bytes(path, opening.data[:HEAD_BYTES]), opening


def _by_bytes(path: Path, head: bytes) -> tuple[Kind, str]:
    kind, note = _by_content(path, head)
    if kind is not Kind.OTHER or note:
        return kind, note
    name = path.name.lower()
    if name.endswith((".csv", ".json")):
        return Kind.TABLE, ""
    if name.endswith(IMAGE_SUFFIXES) or (not head and "." not in name):
        return Kind.BROKEN, "empty" if not head else "not what its name says"
    return Kind.OTHER, "no image"


def _by_content(path: Path, head: bytes) -> tuple[Kind, str]:
    if head[128:132] == b"DICM" or _bare_dicom(head):
        return (Kind.DICOMDIR if _DICOMDIR in head else Kind.DICOM), ""
    for magic, kind in _KINDS:
        if head.startswith(magic):
            return Kind(kind), ""
    if head.startswith(_ZIP):
        return _by_members(path)
    if head[257:262] == _TAR:
        return Kind.TAR, ""
    if head[:2] == b"\x1f\x8b":
        inside = _unzipped_head(path)
        return (Kind.TAR, "") if inside[257:262] == _TAR else _by_nifti(inside, "a gzip archive")
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return Kind.UNSUPPORTED, name
    if head.startswith(_APPLE_DOUBLE):
        return Kind.OTHER, "what macOS notes beside a file"
    return _by_nifti(head, "")


def _by_nifti(head: bytes, otherwise: str) -> tuple[Kind, str]:
    size = {head[:4][::step] for step in (1, -1)}
    one = NIFTI1_HEADER.to_bytes(4, "little") in size
    two = NIFTI2_HEADER.to_bytes(4, "little") in size
    magic1, magic2 = head[344:348], head[4:12]
    if (one and magic1 == b"n+1\0") or (two and magic2[:4] == b"n+2\0"):
        return Kind.NIFTI, ""
    if (one and magic1 == b"ni1\0") or (two and magic2[:4] == b"ni2\0"):
        return Kind.NIFTI_PAIR, ""
    if one and len(head) >= NIFTI1_HEADER:
        return Kind.ANALYZE, ""
    return (Kind.UNSUPPORTED, otherwise) if otherwise else (Kind.OTHER, "")


def _unzipped_head(path: Path) -> bytes:
    try:
        with gzip.open(path, "rb") as stream:
            return stream.read(HEAD_BYTES)
    except (OSError, EOFError, zlib.error):
        return b""


def _by_members(path: Path) -> tuple[Kind, str]:
    """What a zip is: a folder, arrays of NumPy, or a document. A damaged one is refused later."""
    try:
        with path.open("rb") as stream:
            bounded: Any = Bounded(stream, path.stat().st_size)
            with zipfile.ZipFile(bounded) as archive:
                names = archive.namelist()
    # zipfile raises many types on a damaged directory.
    except Exception:
        return Kind.ZIP, ""
    if names and all(name.endswith(".npy") for name in names):
        return Kind.NPZ, ""
    # What every Office Open XML document has, and what every OpenDocument begins with.
    if "[Content_Types].xml" in names or names[:1] == ["mimetype"]:
        return Kind.OTHER, "a document"
    return Kind.ZIP, ""


def _bare_dicom(head: bytes) -> bool:
    """Whether a file without preamble starts with an element of group 0002 or 0008."""
    if len(head) < 16:
        return False
    for order in ("little", "big"):
        group = int.from_bytes(head[0:2], order)
        element = int.from_bytes(head[2:4], order)
        if group not in (0x0002, 0x0008) or element > 0x0070:
            continue
        length = int.from_bytes(head[4:8], "little")
        if head[4:6] in _VRS or (order == "little" and length <= 256 and length % 2 == 0):
            return True
    return False
