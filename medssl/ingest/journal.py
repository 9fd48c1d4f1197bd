"""The journal of an ingest: what is done is noted line by line, and never done again."""

from __future__ import annotations

import itertools
import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medssl.errors import MedsslError

FATAL = "!"  # in place of a key: not the input's fault, so not to be remembered


@dataclass(frozen=True)
class Item:
    """A piece of work.

    Attributes:
        key: what it is known by in the journal; no other item has it. Letters and digits.
        payload: what is worked on.
        files: how many files that reads.
    """

    key: str
    payload: Any
    files: int = 1


@dataclass(frozen=True)
class Answer:
    """What became of an item: plain data, or the code and text of why there is none."""

    value: Any = None
    error: tuple[str, str] | None = None


class Journal:
    """The lines of a folder: ``KEY JSON``, one for each item that was done."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.lines: dict[str, bytes] = {}
        names = sorted(folder.glob("*.jsonl"))
        for path in names:
            self._read(path)
        self._numbers = itertools.count(int(names[-1].stem[:6]) + 1 if names else 0)

    def new(self) -> Path:
        """The file of another batch, which nobody else writes: on a cluster, batches of a killed
        ingest can still be on their way."""
        return self._folder / f"{next(self._numbers):06d}-{secrets.token_hex(4)}.jsonl"

    def take(self, path: Path) -> None:
        """Read what a batch wrote.

        Raises:
            MedsslError: the error that ended the batch and is not the input's fault.
        """
        self._read(path, fatal=True)

    def answer(self, key: str) -> Answer:
        """What became of an item; it is asked for once."""
        value, error = json.loads(self.lines.pop(key))
        return Answer(value, None if error is None else (error[0], error[1]))

    def _read(self, path: Path, fatal: bool = False) -> None:
        for line in path.read_bytes().splitlines(keepends=True):
            key, _, text = line.partition(b" ")
            if not line.endswith(b"\n"):  # the program was killed while it wrote
                continue
            if key != FATAL.encode():
                self.lines[key.decode("ascii")] = text
            elif fatal:
                raise MedsslError(*json.loads(text)[1])


def line(key: str, value: Any, error: MedsslError | tuple[str, str] | None = None) -> bytes:
    """The line of an item: its plain answer, or its error."""
    if isinstance(error, MedsslError):
        error = (error.code, error.what)
    return f"{key} {json.dumps([value, error], separators=(',', ':'))}\n".encode("ascii")
