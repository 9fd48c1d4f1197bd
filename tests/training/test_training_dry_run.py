from dataclasses import replace

import pytest

from medssl.store import Store
from medssl.training import dry_run as module
from medssl.training.dry_run import DryRun, advice, dry_run, limit
from medssl.training.pretrain import PretrainConfig, pretrain

STAGES = {
    "first_read": 50.0, "read": 200.0, "handed": 400.0,
    "views": 100.0, "gradients": 20.0, "optimiser": 1000.0,
}  # fmt: skip
GIB = 2**30
FOUND = DryRun(
    steps=1000, batch_size=4, volumes=100, store_bytes=GIB, cache="", device="GPU",
    samples_per_second=15.0, data_fraction=0.0, hours=1.0, host_peak=GIB, host_free=20 * GIB,
    device_peak=60 * GIB, device_total=80 * GIB, checkpoint_bytes=1, stages=STAGES, limit="model",
)  # fmt: skip
SMALL = {"encoder": "unet", "encoder_options": {"widths": [4, 8]}, "device": "cpu", "steps": 3}


def found(changes=None, **more):
    return replace(FOUND, stages=STAGES | (changes or {}), **more)


@pytest.mark.parametrize(
    ("changes", "more", "workers", "expected"),
    [
        ({}, {}, 4, "model"),
        ({"views": 10.0}, {}, 4, "views"),
        ({"handed": 10.0}, {}, 4, "workers"),
        # with workers reading goes on beside the rest, without them it adds up
        ({"handed": 18.0}, {}, 4, "model"),
        ({"handed": 18.0}, {}, 0, "workers"),
        # what does not fit into memory is read from the disk again in every epoch
        ({"first_read": 1.0}, {"store_bytes": 900 * GIB}, 4, "disk"),
        ({"first_read": 1.0}, {}, 4, "model"),
    ],
)
def test_what_limits_is_the_slowest_part(changes, more, workers, expected):
    assert limit(found(changes, **more), workers) == expected


def test_advice_is_options_and_values(monkeypatch):
    monkeypatch.setattr(module, "cores", lambda: 16)
    config = PretrainConfig(precision="bf16", workers=4)
    assert advice(found(), config) == []
    assert advice(found(), PretrainConfig(workers=4))[0].startswith("precision=bf16")
    hungry = found({"read": 4.0, "handed": 8.0}, limit="workers", data_fraction=0.6)
    assert advice(hungry, config)[0].startswith("workers=5:")
    assert "20 workers" not in advice(hungry, config)[0]
    starved = found({"read": 0.5, "handed": 1.0}, limit="workers", data_fraction=0.9)
    assert advice(starved, config)[0].startswith("workers=16:")
    assert (
        "machine with more cores"
        in advice(starved, PretrainConfig(precision="bf16", workers=16))[0]
    )
    assert "local SSD" in advice(found(limit="disk"), config)[0]
    assert "--batch-size auto" in advice(found(device_peak=GIB), config)[0]
    view = {"options": {"view": {"blur": [0.1, 1.0], "noise": 0.1}}}
    slow = advice(found(limit="views"), config.model_copy(update=view))
    assert slow[0].startswith("options.view.blur=null options.view.noise=0")


def test_a_dry_run_measures_every_stage_and_leaves_nothing(blob_store, tmp_path, monkeypatch):
    before = sorted(path for path in blob_store.rglob("*"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    told = dry_run(blob_store, PretrainConfig(**SMALL), seconds=1.0)
    assert set(told.stages) == set(STAGES)
    assert all(speed > 0 for speed in told.stages.values())
    assert told.volumes == 7
    assert told.store_bytes > 7 * 16 ** Store.open(blob_store)["vol-0"].dims
    assert told.samples_per_second > 0
    assert told.hours == pytest.approx(12 / told.samples_per_second / 3600)
    assert told.checkpoint_bytes > 0
    assert told.device_peak == 0 < told.host_peak
    # (torch makes a folder of its own at its first use)
    assert [p for p in tmp_path.iterdir() if not p.name.startswith("torchinductor")] == []
    assert sorted(path for path in blob_store.rglob("*")) == before
    assert set(told.values()) >= {"limit", "advice", "stages", "hours"}


def test_batch_size_auto_ends_as_a_number_that_a_resumed_run_keeps(
    blob_store, tmp_path, monkeypatch
):
    monkeypatch.setattr("medssl.training.prepare.largest_batch", lambda *_: 3)
    config = PretrainConfig(**SMALL, batch_size="auto", checkpoint_every=1)
    first = pretrain(blob_store, tmp_path / "run", config)
    assert first.history.rows[-1]["step"] == 3
    assert '"batch_size": 3' in (tmp_path / "run" / "run.json").read_text()
    monkeypatch.setattr("medssl.training.prepare.largest_batch", lambda *_: 5)
    again = pretrain(blob_store, tmp_path / "run", config, resume=True)
    assert again.history.rows == first.history.rows
