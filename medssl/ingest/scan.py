"""Walk a folder and tell what each file is by its content, never by its name."""

from __future__ import annotations

import gzip
import os
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from medssl.errors import MedsslError

HEAD_BYTES = 352
NIFTI1_HEADER, NIFTI2_HEADER = 348, 540

# Value representations of DICOM PS3.5 section 6.2, to recognise a file without the DICM mark.
_VRS = frozenset(
    b"AE AS AT CS DA DS DT FL FD IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN "
    b"UR US UT UV".split()
)
_IMAGE_SUFFIXES = (".dcm", ".dicom", ".ima", ".nii", ".nii.gz", ".png", ".npz")
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"NRRD000", "NRRD"),
    (b"ObjectType =", "MetaImage"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"PK\x03\x04", "a zip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
)


class Kind(StrEnum):
    """What a file is."""

    DICOM = "dicom"
    NIFTI = "nifti"
    PNG = "png"
    NPZ = "npz"
    TABLE = "table"  # .csv or .json; whether it is one of ours is for `tables` to say
    UNSUPPORTED = "unsupported"  # an image or archive that is not read yet
    BROKEN = "broken"  # named like an image, or empty, and not one
    LINK = "link"  # a symbolic link that is not followed
    OTHER = "other"


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
    if path.is_dir():
        return Kind.BROKEN, "a folder that cannot be opened"
    if not path.is_file():
        return Kind.OTHER, "not a regular file"
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
    except OSError:
        return Kind.BROKEN, "cannot be opened"
    kind, note = _by_content(path, head)
    name = path.name.lower()
    if kind is not Kind.OTHER:
        return kind, note
    if name.endswith((".csv", ".json")):
        return Kind.TABLE, ""
    if name.endswith(_IMAGE_SUFFIXES) or (not head and "." not in name):
        return Kind.BROKEN, "empty" if not head else "not what its name says"
    return Kind.OTHER, "no image"


def _by_content(path: Path, head: bytes) -> tuple[Kind, str]:
    if head[128:132] == b"DICM" or _bare_dicom(head):
        return Kind.DICOM, ""
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        return Kind.PNG, ""
    if head[:2] == b"\x1f\x8b":
        return _by_nifti(_unzipped_head(path), "a gzip archive")
    if head[:4] == b"PK\x03\x04" and _is_npz(path):
        return Kind.NPZ, ""
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return Kind.UNSUPPORTED, name
    return _by_nifti(head, "")


def _by_nifti(head: bytes, otherwise: str) -> tuple[Kind, str]:
    size = {head[:4][::step] for step in (1, -1)}
    one = NIFTI1_HEADER.to_bytes(4, "little") in size
    two = NIFTI2_HEADER.to_bytes(4, "little") in size
    magic1, magic2 = head[344:348], head[4:12]
    if (one and magic1 == b"n+1\0") or (two and magic2[:4] == b"n+2\0"):
        return Kind.NIFTI, ""
    if (one and magic1 == b"ni1\0") or (two and magic2[:4] == b"ni2\0"):
        return Kind.UNSUPPORTED, "a NIfTI pair (.hdr with .img)"
    if one and len(head) >= NIFTI1_HEADER:
        return Kind.UNSUPPORTED, "Analyze 7.5, which does not say left from right"
    return (Kind.UNSUPPORTED, otherwise) if otherwise else (Kind.OTHER, "")


def _unzipped_head(path: Path) -> bytes:
    try:
        with gzip.open(path, "rb") as stream:
            return stream.read(HEAD_BYTES)
    except (OSError, EOFError, zlib.error):
        return b""


def _is_npz(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return False
    return bool(names) and all(name.endswith(".npy") for name in names)


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
