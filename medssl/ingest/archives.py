"""Zip and tar archives, read as if they were folders.

Members are unpacked under numbers, never under their own names, so that no name can lead anywhere;
their names are kept for the ledger and the tables. Sizes are counted while unpacking: what an
archive says of itself is not believed.
"""

from __future__ import annotations

import errno
import gzip
import json
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from medssl.errors import MedsslError
from medssl.ingest.bounded import Bounded
from medssl.ingest.rejection import Rejection
from medssl.ingest.scan import IMAGE_SUFFIXES, Listed

Row = tuple[str, str, int, str]
"""Of a member: the file it is unpacked to, its name, its size, and why it is a link or ""."""
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
    """What archives hold.

    Attributes:
        listed: every member, sorted by relative path, which begins with its archive's.
        members: how many of them each archive has.
        rejections: the archives that cannot be read, and why.
    """

    listed: list[Listed]
    members: dict[Path, int]
    rejections: list[Rejection]


@dataclass(frozen=True)
class _Member:
    """``source`` is what to read it from; None where it is not to be made. ``link`` says so."""

    name: str
    source: Any = None
    link: str = ""


def open_archives(
    archives: Sequence[Listed], folder: Path, limits: ArchiveLimits | None = None
) -> Opened:
    """Unpack archives; one that an interrupted ingest has unpacked is not unpacked again.

    Args:
        archives: files of ``Kind.ZIP`` or ``Kind.TAR``.
        folder: for the members; to be removed by the caller.
        limits: how far.

    Returns:
        the members. One archive is taken whole or refused whole, with ARCHIVE_UNSAFE,
        ARCHIVE_TOO_LARGE, ARCHIVE_ENCRYPTED, FORMAT_UNSUPPORTED, FILE_TRUNCATED or FILE_UNREADABLE.

    Raises:
        MedsslError: DISK_FULL.
    """
    opened = Opened([], {}, [])
    for item in archives:
        text = f"{item.relative}\0{item.size}\0{item.modified}"
        key = sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        place, done = folder / key, folder / f"{key}.json"
        if not done.exists():
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(mode=0o700, parents=True)
            answer = _answer(item, place, limits or ArchiveLimits())
            partial = done.with_suffix(".new")
            partial.write_text(json.dumps(answer), encoding="ascii")
            partial.replace(done)
        rows, error = json.loads(done.read_text(encoding="ascii"))
        if error is not None:
            opened.rejections.append(Rejection([item.path], *error))
            continue
        opened.members[item.path] = len(rows)
        opened.listed.extend(
            Listed(place / file, f"{item.relative}/{name}", size, item.modified, link)
            for file, name, size, link in rows
        )
    opened.listed.sort(key=lambda member: member.relative)
    return opened


def _answer(item: Listed, folder: Path, limits: ArchiveLimits) -> tuple[list[Row], Any]:
    """The members of one archive, or the code and text of why it is refused."""
    try:
        return _unpack(item.path, folder, limits), None
    except MedsslError as error:
        if error.code == "DISK_FULL":
            raise
        shutil.rmtree(folder)
        return [], (error.code, error.what)


def _unpack(path: Path, folder: Path, limits: ArchiveLimits) -> list[Row]:
    try:
        left = limits.bytes_for(path, folder)
        with path.open("rb") as stream:
            zipped = stream.read(4).startswith(b"PK")
        with (_zip if zipped else _tar)(path, left, limits) as members:
            return _write(members, folder, left)
    except _DAMAGE as error:
        text = f"The archive is damaged or ends early ({type(error).__name__})"
        raise MedsslError("FILE_TRUNCATED", text) from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise MedsslError("DISK_FULL", "The disk is full", fix="Free space.") from None
        raise MedsslError("FILE_UNREADABLE", f"Archive: {type(error).__name__}") from None


def _write(members: Iterator[_Member], folder: Path, left: int) -> list[Row]:
    rows: list[Row] = []
    names: set[str] = set()
    for member in members:
        name = _safe(member.name)
        if name in names:
            raise MedsslError("ARCHIVE_UNSAFE", "Two members have one name")
        names.add(name)
        file, size = f"{len(rows)}{_ending(name)}", 0
        if member.source is not None:
            size = _copy(member.source, folder / file, left)
            left -= size
        rows.append((file, name, size, member.link))
    folders = {str(parent) for name in names for parent in PurePosixPath(name).parents}
    if names & folders:
        raise MedsslError("ARCHIVE_UNSAFE", "A member is a file and a folder")
    return rows


def _ending(name: str) -> str:
    """As much of a member's name as :func:`medssl.ingest.scan.sniff` looks at."""
    known = (*sorted(IMAGE_SUFFIXES, key=len, reverse=True), ".csv", ".json")
    other = ".other" if "." in PurePosixPath(name).name else ""
    return next((ending for ending in known if name.lower().endswith(ending)), other)


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
            yield _Member(entry.filename, link="a link in an archive")
        elif stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            yield _Member(entry.filename)
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
            yield _Member(entry.name, link="a link in an archive")
        elif not entry.isreg():
            yield _Member(entry.name)
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
