"""A stream with limits: what an archive's header asks for is not what it gets."""

from __future__ import annotations

from typing import IO

from medssl.errors import MedsslError

AT_ONCE = 2**25
"""Bytes of one read: the table of 100,000 members of a zip, or one header of a tar."""


class Bounded:
    """A readable, seekable binary stream that ends in an error rather than in all memory.

    Args:
        stream: what is read.
        position: how far it may be read.
        at_once: the most bytes of one read.
    """

    def __init__(self, stream: IO[bytes], position: int, at_once: int = AT_ONCE) -> None:
        self._stream, self._position, self._at_once = stream, position, at_once
        self._last = self._again = b""

    def read(self, size: int = -1) -> bytes:
        """As a file's ``read``.

        Raises:
            MedsslError: ARCHIVE_TOO_LARGE.
        """
        if self._again and size == 1:
            again, self._again = self._again, b""
            return again
        if self._again:
            self._stream.seek(self.tell())
            self._again = b""
        all_of_it = size < 0 or size > self._at_once
        data = self._stream.read(self._at_once + 1 if all_of_it else size)
        if len(data) > self._at_once or self._stream.tell() > self._position:
            raise _too_large()
        self._last = data[-1:]
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        """As a file's ``seek``; nothing is unpacked to get beyond the limit.

        Raises:
            MedsslError: ARCHIVE_TOO_LARGE.
        """
        # tarfile looks at the last byte again; a gzip stream would start from its beginning.
        if whence == 0 and self._last and offset == self._stream.tell() - 1:
            self._again = self._last
            return offset
        if whence == 0 and offset > self._position:
            raise _too_large()
        self._last = self._again = b""
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        """As a file's ``tell``."""
        return self._stream.tell() - len(self._again)

    def seekable(self) -> bool:
        """Always."""
        return True


def _too_large() -> MedsslError:
    return MedsslError("ARCHIVE_TOO_LARGE", "It holds or asks for more than it may")
