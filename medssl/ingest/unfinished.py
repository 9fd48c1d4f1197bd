"""The folder of an ingest on its way, from which an interrupted one goes on.

It lies hidden beside the store. Its journals hold what the headers say, identifiers included, so
only its owner may read it, and it goes when the store is there.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from medssl.errors import Exit, MedsslError

_PATIENCE = 5.0  # seconds that the children of a killed ingest may take to go


class Unfinished:
    """The work folder of an ingest, as a context manager.

    What it holds is used again where it was made with the same options, and thrown away where not.
    It stays where the ingest is interrupted or the disk full, and goes at the end, and where the
    user's own mistake ends it.

    Args:
        store: where the store will be.
        options: plain data on which the outcome depends.

    Raises:
        MedsslError: INGEST_RUNNING where another ingest works on the same store; DISK_FULL.
    """

    def __init__(self, store: Path, options: Mapping[str, Any]) -> None:
        self.folder = store.with_name(f".{store.name}.partial")
        self.store, self.base = self.folder / "store", self.folder / "base"
        self.headers, self.volumes = self.folder / "headers", self.folder / "volumes"
        self.archives = self.folder / "archives"
        self._options = json.dumps(options, sort_keys=True)
        self.resumed = False

    def __enter__(self) -> Unfinished:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        self._wait_for_lock()
        stated = self.folder / "options.json"
        same = stated.exists() and stated.read_text(encoding="utf-8") == self._options
        if same and not self._had_ended():
            self.resumed = True
            return self
        for old in (self.store, self.base, self.headers, self.volumes, self.archives):
            shutil.rmtree(old, ignore_errors=True)
        partial = stated.with_suffix(".new")
        partial.write_text(self._options, encoding="utf-8")
        partial.replace(stated)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None or (isinstance(error, MedsslError) and self._is_mistake(error)):
            shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)

    def _had_ended(self) -> bool:
        """Whether the store was moved to its place, and the ingest killed before it tidied up."""
        return any(self.volumes.glob("*.jsonl")) and not self.store.exists()

    def _is_mistake(self, error: MedsslError) -> bool:
        """Whether the user must ask for something else; a cluster that broke down may come back."""
        broke_down = error.code == "SCHEDULER_UNAVAILABLE" and self.headers.exists()
        return error.exit_code is Exit.USAGE and not broke_down

    def _wait_for_lock(self) -> None:
        """Children of a killed ingest have its lock until they are gone."""
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES):
                    return  # a file system without locks
            if time.monotonic() > until:
                os.close(self._lock)
                raise MedsslError(
                    "INGEST_RUNNING",
                    "Another ingest is making this store",
                    where="STORE",
                    fix="Wait for it to end, or give another name.",
                )
            time.sleep(0.1)
