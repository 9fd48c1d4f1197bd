"""Pseudonyms: a keyed hash in place of every identifier.

HMAC-SHA-256 (RFC 2104, FIPS 180-4) of the identifier under the site's key, truncated. Without the
key a pseudonym can neither be undone nor be checked against a list of names; with it, the same
identifier always gives the same pseudonym. The key is kept apart from the store.
"""

from __future__ import annotations

import hmac
import os
import secrets
from functools import cache, partial
from pathlib import Path

from medssl.errors import MedsslError

KEY_BYTES = 32
_LENGTH = 12  # hex digits: 48 bits
_LENGTH_VOLUME = 16  # volumes are many; 64 bits
MOST_DAYS = 3650
"""How far a subject's dates may move."""

# Only endings that tell nothing: "MR.1.2.840..." would hand out a UID.
_ENDINGS = (
    ".nii.gz", ".nii", ".hdr", ".img", ".dcm", ".ima", ".nrrd", ".nhdr", ".mha", ".mhd", ".raw",
    ".zraw", ".raw.gz", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".npz", ".zip", ".tar", ".tgz",
    ".tar.gz", ".csv", ".tsv", ".json", ".txt", ".pdf",
)  # fmt: skip


class Pseudonymizer:
    """Turns identifiers into pseudonyms under one key.

    Args:
        key: 32 bytes, from :func:`load_key`.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise MedsslError("KEY_INVALID", f"A site key is {KEY_BYTES} bytes")
        self._key = key
        self._folder = cache(partial(self._hash, "path"))
        self._series = cache(partial(self._hash, "series"))

    def _hash(self, domain: str, text: str, length: int = _LENGTH) -> str:
        message = f"{domain}\0{text}".encode("utf-8", "surrogateescape")
        return hmac.digest(self._key, message, "sha256").hex()[:length]

    def subject(self, text: str) -> str:
        """``sub-`` and 12 hex digits; ``text`` is a PatientID or a subject of a table."""
        return "sub-" + self._hash("subject", text.strip())

    def study(self, text: str) -> str:
        """``stu-`` and 12 hex digits, of a StudyInstanceUID."""
        return "stu-" + self._hash("study", text.strip())

    def series(self, text: str) -> str:
        """``ser-`` and 12 hex digits, of a SeriesInstanceUID."""
        return "ser-" + self._series(text.strip())

    def frame(self, text: str) -> str:
        """``frm-`` and 12 hex digits, of a Frame of Reference UID; "" of none."""
        return "frm-" + self._hash("frame", text.strip()) if text.strip() else ""

    def volume(self, text: str) -> str:
        """``vol-`` and 16 hex digits."""
        return "vol-" + self._hash("volume", text, _LENGTH_VOLUME)

    def scanner(self, text: str) -> str:
        """``scn-`` and 12 hex digits, of what tells one scanner from the others."""
        return "scn-" + self._hash("scanner", text)

    def site(self, text: str) -> str:
        """``sit-`` and 12 hex digits, of an institution's name."""
        return "sit-" + self._hash("site", text)

    def days_back(self, subject: str) -> int:
        """By how many days a subject's dates move back: 1 to 3650, the same for all of them.

        So intervals within a subject stay exact (DICOM PS3.15 E.3.7), and the date of a known
        examination does not tell that of another's.
        """
        return 1 + int(self._hash("date", subject.strip(), 16), 16) % MOST_DAYS

    def path(self, relative: str) -> str:
        """A relative path with ``/``, each folder and file name replaced, plain endings kept."""
        *folders, name = relative.split("/")
        ending = next((e for e in _ENDINGS if name.lower().endswith(e)), "")
        hidden = ["d-" + self._folder(folder) for folder in folders]
        return "/".join([*hidden, "f-" + self._hash("path", name) + ending])


def load_key(path: Path, create: bool = True) -> bytes:
    """Read the site's key, or make a new random one (readable by its owner alone).

    Args:
        path: a text file of 64 hex digits.
        create: whether to make it where it is missing.

    Raises:
        MedsslError: KEY_INVALID where it is missing (and not ``create``) or not 64 hex digits.
    """
    if not path.exists() and create:
        key = secrets.token_bytes(KEY_BYTES)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, key.hex() + "\n")
        return key
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise MedsslError(
            "KEY_INVALID",
            "The site key could not be read",
            where="--key-file",
            fix="It is a text file of 64 hex digits; leave the option out to make one.",
        )
    return key


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read; whole or not at all."""
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    partial.unlink(missing_ok=True)
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    # Undecodable file names are kept as they are: this file is for the site's own eyes.
    with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
        stream.write(text)
    partial.replace(path)
