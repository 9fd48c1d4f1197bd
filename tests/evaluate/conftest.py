"""A tiny store and bundle, in 2D with classes and in 3D with label maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from medssl.bundle import Architecture, Bundle, BundleSpec, EncoderSpec, InputContract, seen_record
from medssl.networks import build_model
from medssl.store import LedgerRow, Outcome, Store, StoreInfo, StoreWriter, VolumeRecord
from medssl.store.intensity import IntensityContract

OPTIONS = {"widths": [8, 16]}
PICTURE = IntensityContract(scheme="range", low=0.0, high=255.0)


def split_of(number: int) -> str:
    return ("train", "train", "train", "validation", "test")[number % 5]


def _write_store(path: Path, volumes: list[dict]) -> Store:
    """volumes: dicts of subject, array, and perhaps split, labels, label, spacing."""
    names = {1: "organ"} if any("label" in v for v in volumes) else {}
    with StoreWriter(path, StoreInfo(label_names=names)) as writer:
        for i, volume in enumerate(volumes):
            array = volume["array"]
            affine = None
            if array.ndim == 4:
                affine = np.diag([*volume.get("spacing", (1.0, 1.0, 1.0)), 1.0])
            record = VolumeRecord(
                volume_id=f"v{i:03d}",
                subject_id=volume["subject"],
                study_id=f"s-{volume['subject']}",
                series_id=f"e{i:03d}",
                modality="OT" if array.ndim == 3 else "MR",
                split=volume.get("split", ""),
                labels=volume.get("labels", {}),
            )
            writer.add_volume(record, array, affine, volume.get("label"))
        ledger = [LedgerRow(f"f{i}", Outcome.USED, volume_id=f"v{i:03d}") for i in range(i + 1)]
        return writer.finish(ledger, len(ledger))


def _save_bundle(path: Path, dims: int, patch: list[int], seen: Sequence[str] = ()) -> Bundle:
    architecture = Architecture(encoder=EncoderSpec(name="unet", dims=dims, options=OPTIONS))
    torch.manual_seed(0)
    spec = BundleSpec(
        kind="encoder",
        architecture=architecture,
        contract=InputContract(
            dims=dims,
            patch_size=patch,
            intensity=PICTURE if dims == 2 else IntensityContract(),
        ),
        method="test",
        **seen_record(seen),
    )
    return Bundle.save(path, build_model(architecture.model_dump()), spec)


@pytest.fixture
def write_store() -> Callable[..., Store]:
    return _write_store


@pytest.fixture
def save_bundle() -> Callable[..., Bundle]:
    return _save_bundle


@pytest.fixture
def pictures(tmp_path: Path) -> Store:
    """40 subjects with one 12 x 12 picture each: noise, or noise with stripes (label "striped")."""
    generator = np.random.default_rng(0)
    volumes = []
    for i in range(40):
        image = generator.normal(128, 20, (1, 12, 12))
        if i % 2:
            image[:, ::2] += 40
        volumes.append(
            {
                "subject": f"p{i}",
                "array": image.clip(0, 255).astype(np.uint8),
                "split": split_of(i // 2),
                "labels": {"striped": i % 2},
            }
        )
    return _write_store(tmp_path / "pictures", volumes)


@pytest.fixture
def scans(tmp_path: Path) -> Store:
    """10 subjects with one 12 x 10 x 8 volume each: a bright box is labelled."""
    generator = np.random.default_rng(0)
    volumes = []
    for i in range(10):
        label = np.zeros((12, 10, 8), np.uint8)
        a, b, c = generator.integers(0, 4, 3)
        label[a : a + 5, b : b + 5, c : c + 4] = 1
        array = generator.normal(100, 10, (1, 12, 10, 8)) + 60 * label
        volumes.append(
            {
                "subject": f"p{i}",
                "array": array.astype(np.float32),
                "label": label,
                "split": split_of(i),
            }
        )
    return _write_store(tmp_path / "scans", volumes)
