"""Zip and tar archives, read as if they were folders.

Members are unpacked under numbers, never under their own names, so that no name can lead anywhere;
their names are kept for the ledger and the tables. Sizes are counted while unpacking: what an
archive says of itself is not believed.
"""

from __future__ import annotations

import errno
import gzip
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from medssl.errors import MedsslError
from medssl.ingest.bounded import Bounded
from medssl.ingest.jobs import Rejection
from medssl.ingest.scan import Found, Kind, sniff

ARCHIVES = (Kind.ZIP, Kind.TAR)
_CHUNK = 2**20
_ENCRYPTED = 0x1  # bit 0 of the general purpose flags (APPNOTE 4.4.4)
# What zipfile, tarfile and the decompressors raise on damaged archives.
_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    EOFError,
    ValueError,
    KeyError,
    IndexError,
    NotImplementedError,
    RuntimeError,
)
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@dataclass(frozen=True)
class ArchiveLimits:
    """How far an archive is unpacked.

    Attributes:
        members: the most files and folders in it.
        ratio: the most bytes unpacked for each byte of it, beyond ``free``.
        free: bytes that may always be unpacked: label maps shrink a thousandfold.
        of_disk: share of the free disk that one archive may take.
    """

    members: int = 200_000
    ratio: float = 200.0
    free: int = 2**30
    of_disk: float = 0.5

    def bytes_for(self, archive: Path, folder: Path) -> int:
        """The most bytes that an archive may become in a folder."""
        allowed = max(self.free, self.ratio * archive.stat().st_size)
        return int(min(allowed, self.of_disk * shutil.disk_usage(folder).free))


@dataclass(frozen=True)
class Opened:
    """Files with those of the archives among them.

    Attributes:
        found: the same files and every member, sorted by relative path; a member's begins with
            its archive's.
        members: how many members each archive has that could be read.
        rejections: the other archives, and why.
    """

    found: list[Found]
    members: dict[Path, int]
    rejections: list[Rejection]


@dataclass(frozen=True)
class _Member:
    """``kind`` is set for what is not unpacked; ``source`` is what to read it from."""

    name: str
    source: Any = None
    kind: Kind | None = None
    note: str = ""


def open_archives(
    found: Sequence[Found], folder: Path, limits: ArchiveLimits | None = None
) -> Opened:
    """Unpack every archive among the files found.

    Args:
        found: what :func:`medssl.ingest.scan.scan` found.
        folder: an empty folder for the members; to be removed by the caller.
        limits: how far.

    Returns:
        the members beside the files. One archive is taken whole or refused whole, with
        ARCHIVE_UNSAFE, ARCHIVE_TOO_LARGE, ARCHIVE_ENCRYPTED, FORMAT_UNSUPPORTED, FILE_TRUNCATED
        or FILE_UNREADABLE; an archive in an archive is refused by itself.

    Raises:
        MedsslError: DISK_FULL.
    """
    everything, members = list(found), {}
    rejections = []
    for number, item in enumerate(found):
        if item.kind not in ARCHIVES:
            continue
        place = folder / str(number)
        place.mkdir(parents=True)
        try:
            inside = _unpack(item, place, limits or ArchiveLimits())
        except MedsslError as error:
            if error.code == "DISK_FULL":
                raise
            shutil.rmtree(place)
            rejections.append(Rejection([item.path], error.code, error.what))
            continue
        members[item.path] = len(inside)
        everything += inside
    return Opened(sorted(everything, key=lambda one: one.relative), members, rejections)


def _unpack(item: Found, folder: Path, limits: ArchiveLimits) -> list[Found]:
    try:
        left = limits.bytes_for(item.path, folder)
        with (_zip if item.kind is Kind.ZIP else _tar)(item.path, left, limits) as members:
            return _write(members, item.relative, folder, left)
    except _DAMAGE as error:
        text = f"The archive is damaged or ends early ({type(error).__name__})"
        raise MedsslError("FILE_TRUNCATED", text) from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise MedsslError("DISK_FULL", "The disk is full", fix="Free space.") from None
        raise MedsslError("FILE_UNREADABLE", f"Archive: {type(error).__name__}") from None


def _write(members: Iterator[_Member], archive: str, folder: Path, left: int) -> list[Found]:
    inside: list[Found] = []
    names: set[str] = set()
    for member in members:
        relative = f"{archive}/{_safe(member.name)}"
        if relative in names:
            raise MedsslError("ARCHIVE_UNSAFE", "Two members have one name")
        names.add(relative)
        path = folder / str(len(inside))
        if member.kind is not None:
            inside.append(Found(path, relative, member.kind, member.note))
            continue
        left -= _copy(member.source, path, left)
        kind, note = sniff(path, PurePosixPath(relative).name)
        if kind in ARCHIVES:
            kind, note = Kind.UNSUPPORTED, "an archive inside an archive"
        inside.append(Found(path, relative, kind, note))
    _check_no_file_is_a_folder(names)
    return inside


def _safe(name: str) -> str:
    """A member's name as a plain relative path.

    Raises:
        MedsslError: ARCHIVE_UNSAFE where it is absolute, empty, or leads upwards.
    """
    place = PurePosixPath(name.replace("\\", "/"))
    drive = len(name) > 1 and name[1] == ":"
    if place.is_absolute() or drive or ".." in place.parts or not place.name or "\0" in name:
        raise MedsslError("ARCHIVE_UNSAFE", "A member's name leads out of the archive")
    return str(place)


def _check_no_file_is_a_folder(names: set[str]) -> None:
    folders = {str(parent) for name in names for parent in PurePosixPath(name).parents}
    if names & folders:
        raise MedsslError("ARCHIVE_UNSAFE", "A member is a file and a folder")


def _copy(source: IO[bytes], path: Path, left: int) -> int:
    written = 0
    with source, path.open("xb") as target:
        while chunk := source.read(_CHUNK):
            written += len(chunk)
            if written > left:
                raise MedsslError("ARCHIVE_TOO_LARGE", "It unpacks to more than it may")
            target.write(chunk)
    return written


@contextmanager
def _zip(path: Path, left: int, limits: ArchiveLimits) -> Iterator[Iterator[_Member]]:
    del left  # a zip is not unpacked to be listed
    with path.open("rb") as stream:
        bounded: Any = Bounded(stream, path.stat().st_size)
        with zipfile.ZipFile(bounded) as archive:
            yield _zip_members(archive, limits)


def _zip_members(archive: zipfile.ZipFile, limits: ArchiveLimits) -> Iterator[_Member]:
    entries = archive.infolist()
    if len(entries) > limits.members:
        raise MedsslError("ARCHIVE_TOO_LARGE", f"It has more than {limits.members} members")
    if any(entry.flag_bits & _ENCRYPTED for entry in entries):
        raise MedsslError("ARCHIVE_ENCRYPTED", "Its members are encrypted")
    if any(entry.compress_type not in _METHODS for entry in entries):
        raise MedsslError("FORMAT_UNSUPPORTED", "Zip is read as stored or deflated only")
    for entry in entries:
        mode = entry.external_attr >> 16
        if entry.is_dir():
            _safe(entry.filename)
        elif stat.S_ISLNK(mode):
            yield _Member(entry.filename, kind=Kind.LINK, note="a link in an archive")
        elif stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            yield _Member(entry.filename, kind=Kind.OTHER, note="not a regular file")
        else:
            yield _Member(entry.filename, archive.open(entry))


@contextmanager
def _tar(path: Path, left: int, limits: ArchiveLimits) -> Iterator[Iterator[_Member]]:
    with path.open("rb") as stream:
        zipped = stream.read(2) == b"\x1f\x8b"
    # Headers and padding take up to 2 kB for each member.
    most = left + 2048 * limits.members
    with gzip.open(path, "rb") if zipped else path.open("rb") as stream:
        bounded: Any = Bounded(cast(IO[bytes], stream), most)
        with tarfile.open(fileobj=bounded, mode="r:") as archive:
            yield _tar_members(archive, bounded, limits)


def _tar_members(archive: tarfile.TarFile, stream: Any, limits: ArchiveLimits) -> Iterator[_Member]:
    for number, entry in enumerate(archive):
        if number >= limits.members:
            raise MedsslError("ARCHIVE_TOO_LARGE", f"It has more than {limits.members} members")
        if entry.isdir():
            if entry.name not in (".", "./", ""):
                _safe(entry.name)
        elif entry.issym() or entry.islnk():
            yield _Member(entry.name, kind=Kind.LINK, note="a link in an archive")
        elif not entry.isreg():
            yield _Member(entry.name, kind=Kind.OTHER, note="not a regular file")
        else:
            yield _Member(entry.name, archive.extractfile(entry))
    # tarfile takes a damaged header, or the end of the file, for the end of the archive; and what
    # follows the two empty blocks, the checksum of gzip too, it does not read.
    stream.seek(archive.offset)
    end = stream.read(_CHUNK)
    if len(end) < tarfile.BLOCKSIZE:
        raise EOFError
    while end:
        if end.strip(b"\0"):
            raise ValueError
        end = stream.read(_CHUNK)
