"""What every test shares: few threads, an MLflow of its own, the real data where there is some."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # helpers such as stores.py

# Before numpy or torch is imported: tiny tensors are slower on many threads than on one.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ["MPLBACKEND"] = "Agg"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "true"


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    """Start every test from the same random numbers, so that it cannot fail once in a while."""
    import torch

    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def mlflow_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Point MLflow at a database that goes away, so that no test writes into the checkout."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"
    patch = pytest.MonkeyPatch()
    patch.setenv("MLFLOW_TRACKING_URI", uri)
    yield uri
    patch.undo()


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real scans that MEDSSL_TEST_DATA names; skips where it names none."""
    named = os.environ.get("MEDSSL_TEST_DATA", "")
    if not named:
        pytest.skip("MEDSSL_TEST_DATA is not set: no real data to test with")
    root = Path(named)
    if not root.is_dir():
        pytest.fail("MEDSSL_TEST_DATA is set, but is not a folder")
    return root


def blobs(rng, shape):
    """An image with one bright ball, and its label map."""
    import numpy as np

    grid = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"))
    centre = [rng.uniform(0.3 * n, 0.7 * n) for n in shape]
    distance = np.sqrt(sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)))
    label = (distance < 0.25 * min(shape)).astype(np.uint8)
    image = rng.normal(100, 8, shape) + 60 * label
    return np.rint(image)[None], label


def write_store(path, *dims, count=10):
    """A store of a few subjects with a ball each, of one or of both numbers of dimensions."""
    import numpy as np

    from medssl.store import LedgerRow, Outcome, StoreInfo, StoreWriter, VolumeRecord

    rows = []
    with StoreWriter(path, StoreInfo(label_names={1: "ball"})) as writer:
        for d in dims:
            rng = np.random.default_rng(d)
            for i in range(count):
                name = f"vol-{i}" if len(dims) == 1 else f"vol-{i}-{d}d"
                ids = (name, f"sub-{i}", f"stu-{i}", f"ser-{i}")
                record = VolumeRecord(*ids, "MR", labels={"side": i % 2}, source="nifti")
                image, label = blobs(rng, (16,) * d)
                if i % 2:
                    image = image + 80 * (np.arange(16) > 8)
                writer.add_volume(record, image, np.eye(4) if d == 3 else None, label)
                rows.append(LedgerRow(name, Outcome.USED, volume_id=name))
        return writer.finish(rows, len(rows)).path


@pytest.fixture(scope="session", params=[2, 3], ids=["2d", "3d"])
def blob_store(request, tmp_path_factory):
    """A store of ten small subjects with a ball, labelled, and a class: in 2D and in 3D."""
    return write_store(tmp_path_factory.mktemp(f"blobs{request.param}") / "store", request.param)


@pytest.fixture(scope="session")
def both_store(tmp_path_factory):
    """The two as one store: ten subjects, each with a 3D volume and a 2D image."""
    return write_store(tmp_path_factory.mktemp("blobs") / "store", 3, 2)
