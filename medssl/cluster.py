"""Dask, for work on the machines of a cluster.

The machines must see the same files under the same paths. Dask sends what is to be done from one
to the other in its own format, which trusts whoever can connect: run it on a closed network, or
with TLS (see Dask's manual).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from medssl.errors import MedsslError

_PATIENCE = "20s"
_GLANCE = 0.01  # seconds


class Cluster:
    """The workers of a Dask scheduler, as a context manager.

    Args:
        address: of the scheduler, such as ``tcp://10.0.0.1:8786``.

    Raises:
        MedsslError: SCHEDULER_UNAVAILABLE where Dask is not installed, or the scheduler does not
            answer or has no workers.
    """

    def __init__(self, address: str) -> None:
        try:
            from distributed import Client
        except ImportError:
            raise _unavailable("Dask is not installed", "pip install medssl[cluster]") from None
        try:
            self._client = Client(address, timeout=_PATIENCE, set_as_default=False)
        # Whatever Dask raises on an address it cannot use; it may quote the address.
        except Exception:
            raise _unavailable("The scheduler does not answer", "Check --scheduler.") from None

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def cores(self) -> int:
        """How many tasks its workers do at once.

        Raises:
            MedsslError: SCHEDULER_UNAVAILABLE where there are none.
        """
        cores = sum(self._client.nthreads().values())
        if not cores:
            raise _unavailable("The scheduler has no workers", "Start `dask worker` somewhere.")
        return int(cores)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Have a function called somewhere; what comes back is for the other methods."""
        return self._client.submit(function, *arguments, pure=False)

    def error(self, task: Any) -> str | None:
        """None while a task runs; "" when it is done; else the type of what it raised."""
        if not task.done():
            return None
        raised = task.exception()
        return "" if raised is None else type(raised).__name__

    def wait(self, tasks: Sequence[Any], seconds: float) -> None:
        """Wait until one of the tasks is done, at most so long."""
        until = time.monotonic() + seconds
        while not any(task.done() for task in tasks) and time.monotonic() < until:
            time.sleep(_GLANCE)

    def cancel(self, task: Any) -> None:
        """Have a task not begun, or its result forgotten."""
        task.cancel()


def _unavailable(what: str, fix: str) -> MedsslError:
    return MedsslError("SCHEDULER_UNAVAILABLE", what, where="--scheduler", fix=fix)
