"""The kept step of a pretraining run, run again from its folder and its store."""

from __future__ import annotations

from pathlib import Path

from medssl import config as configuration
from medssl import tracking
from medssl.errors import MedsslError
from medssl.store import Store
from medssl.training.folder import started_with
from medssl.training.loop import fit
from medssl.training.prepare import prepare
from medssl.training.pretrain import PretrainConfig, resolve
from medssl.training.replay import Finder, Replay, kept, replay


def replay_run(store_path: Path, out: Path) -> Replay:
    """Run the newest kept step of the run in ``out`` again; see :func:`replay`.

    Raises:
        MedsslError: INPUT_MISSING where no step was kept, RESUME_MISMATCH where the store is
            another.
    """
    record = kept(out)
    store = Store.open(store_path)
    started = started_with(out)
    if started["data_fingerprint"] != store.fingerprint():
        raise MedsslError(
            "RESUME_MISMATCH",
            "The run was made with another store",
            where="store",
            fix="Give the store it was made with.",
        )
    config = configuration.load(
        PretrainConfig, values={**record["config"], "compile": False, "strategy": "auto"}
    )
    config, volume_ids = resolve(store, config, started["subjects"])
    prepared = prepare(store, config, volume_ids, out)

    def train(folder: Path, resume: bool, finder: Finder) -> None:
        with tracking.run("", "", folder, silent=True) as run:
            fit(
                prepared.task,
                prepared.source,
                config,
                folder,
                run,
                resume=resume,
                watchers=[finder],
                description="going to the step",
            )

    return replay(out, record, prepared.task, train)
