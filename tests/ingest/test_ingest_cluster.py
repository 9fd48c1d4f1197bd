"""The machines of a cluster make the same store as this one."""

from __future__ import annotations

import os

import numpy as np
import pytest
from stores import bytes_of

from medssl.cluster import Cluster
from medssl.errors import MedsslError
from medssl.ingest.isolate import Limits
from medssl.ingest.journal import Item
from medssl.ingest.pool import Pool, run_items
from medssl.ingest.run import ingest

distributed = pytest.importorskip("distributed", reason="Dask is not installed")


@pytest.fixture(scope="module")
def scheduler():
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
    ) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def tree(tmp_path, write_stack):
    root = tmp_path / "in"
    for index in range(4):
        heights = [2.0 * k + index for k in range(3)]
        write_stack(root / str(index), heights=heights, series=f"1.{index + 1}")
    write_stack(root / "gap", heights=[0, 2, 6, 8], series="1.99")
    np.savez(root / "x.npz", train_images=np.arange(48, dtype=np.uint8).reshape(3, 4, 4))
    return root


def test_a_store_is_the_same_byte_for_byte(tree, tmp_path, scheduler):
    key = tmp_path / "site.key"
    here = ingest(tree, tmp_path / "here", key_file=key)
    there = ingest(tree, tmp_path / "there", key_file=key, scheduler=scheduler)
    assert here.counts == there.counts
    assert bytes_of(tmp_path / "here") == bytes_of(tmp_path / "there")


def test_a_crash_there_costs_one_item(tmp_path, scheduler):
    def die_at_two(payload, folder):
        if payload == 2:
            os._exit(1)
        return payload

    items = [Item(f"k{n}", n) for n in range(4)]
    with Cluster(scheduler) as cluster:
        pool = Pool(cluster.cores(), Limits(20.0), cluster)
        answers = [answer for _, answer in run_items(die_at_two, items, tmp_path, pool)]
    assert [answer.value for answer in answers] == [0, 1, None, 3]
    assert answers[2].error[0] == "READER_FAILED"


def test_a_scheduler_that_does_not_answer_is_a_mistake_of_the_user(tree, tmp_path, monkeypatch):
    monkeypatch.setattr("medssl.cluster._PATIENCE", "1s")
    with pytest.raises(MedsslError, match="SCHEDULER_UNAVAILABLE"):
        ingest(tree, tmp_path / "store", scheduler="tcp://127.0.0.1:9")
    assert not (tmp_path / ".store.partial").exists()
