"""Volumes that were annotated for some of the structures only."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from medssl.bundle import Architecture, EncoderSpec, InputContract
from medssl.errors import MedsslError
from medssl.evaluate.features import random_encoder, sample_voxels, voxel_features
from medssl.evaluate.targets import annotated_values, partly_annotated, segmentation_volumes
from medssl.finetune import FinetuneConfig, finetune
from medssl.finetune.labels import known_classes
from medssl.finetune.tasks import SegmentationTask
from medssl.losses import DiceCE
from medssl.methods.view_config import ViewConfig
from medssl.store import LedgerRow, Outcome, StoreInfo, StoreWriter, VolumeRecord

NAMES = {1: "bright", 2: "dark"}
SPLIT = {f"sub-{i}": "test" if i >= 8 else "train" for i in range(12)}


def store_of(path, labelled):
    """Pictures with a bright and a dark square; of each what was annotated is labelled."""
    rng, rows = np.random.default_rng(0), []
    with StoreWriter(path, StoreInfo(label_names=NAMES)) as writer:
        for i, values in enumerate(labelled):
            image, label = rng.normal(100, 4, (1, 16, 16)), np.zeros((16, 16), np.uint8)
            for value, first in zip((1, 2), rng.permutation([0, 8]), strict=True):
                place = np.s_[first + 1 : first + 7, 3:12]
                image[0][place] += 60 if value == 1 else -60
                label[place] = value if value in (values or (1, 2)) else 0
            ids = (f"vol-{i:02d}", f"sub-{i}", f"stu-{i}", f"ser-{i}")
            record = VolumeRecord(*ids, "MR", labelled=list(values))
            writer.add_volume(record, image, None, label)
            rows.append(LedgerRow(f"f{i}", Outcome.USED, volume_id=ids[0]))
        return writer.finish(rows, len(rows))


HALVES = [(1,), (1,), (1,), (2,)] * 3


@pytest.fixture
def halves(tmp_path):
    """Every picture is annotated for one of two structures."""
    return store_of(tmp_path / "store", HALVES)


def test_what_each_volume_was_annotated_for(halves, tmp_path):
    ids = segmentation_volumes(halves)
    found = annotated_values(halves, ids)
    assert [sorted(found[v]) for v in ids] == [list(values) for values in HALVES]
    silent = store_of(tmp_path / "silent", [()] * 3)
    assert annotated_values(silent, list(silent)) == dict.fromkeys(silent, frozenset({1, 2}))
    mixed = store_of(tmp_path / "mixed", [(1, 2), (), (2,)])
    with pytest.raises(MedsslError, match="LABEL_UNSTATED"):
        annotated_values(mixed, list(mixed))


def test_classes_by_volume():
    annotated = {"a": frozenset({3}), "b": frozenset({1, 3}), "c": frozenset({3})}
    known, which = known_classes(annotated, ["a", "b", "c"], {1: "x", 3: "y"})
    third = [True, False, True, True]
    assert [known[which[v]] for v in "abc"] == [third, [True] * 4, third]
    with pytest.raises(MedsslError, match="LABELS_TOO_FEW"):
        known_classes(annotated, ["a", "c"], {1: "x", 3: "y"})


def test_both_structures_are_learned_from_pictures_of_one_each(halves, tmp_path):
    settings = FinetuneConfig(
        steps=60, lr=0.03, batch_size=4, device="cpu", encoder_options={"widths": [8, 16]}
    )
    result = finetune("segmentation", halves.path, tmp_path / "run", settings, split=SPLIT)
    assert result.metrics["test_dice_bright"] > 0.8
    assert result.metrics["test_dice_dark"] > 0.8
    # Each test picture is measured for what is known of it, and for nothing else.
    tested = result.cases[result.cases["split"] == "test"]
    assert tested.sort_values("volume_id")["label"].tolist() == ["bright"] * 3 + ["dark"]
    assert tested["dice"].notna().all()


def test_a_structure_that_no_training_picture_was_annotated_for_is_refused(tmp_path):
    store = store_of(tmp_path / "store", [(1,)] * 8 + [(1, 2)] * 4)
    with pytest.raises(MedsslError, match="LABELS_TOO_FEW.*dark"):
        finetune("segmentation", store.path, tmp_path / "run", FinetuneConfig(), split=SPLIT)
    assert not (tmp_path / "run").exists()


class Fixed(nn.Module):
    """Sure of the same classes whatever it sees."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, image):
        return self.logits.expand(len(image), *self.logits.shape[1:])


def test_a_sample_is_judged_by_what_it_was_annotated_for():
    """Of one that was not annotated for class 2, predicting it is no mistake."""
    logits = torch.full((1, 3, 8, 8), -20.0)
    logits[:, 2] = 20.0
    known = torch.tensor([[True, True, True], [True, True, False]])
    task = SegmentationTask(Fixed(logits), ViewConfig(), known=known)

    def batch(target):
        return {
            "image": torch.zeros(1, 1, 8, 8),
            "label": torch.zeros(1, 1, 8, 8, dtype=torch.int64),
            "target": torch.tensor([target]),
            "normalisation": torch.tensor([[0.0, 1.0, 0.0, 1.0]]),
            "spacing": torch.ones(1, 2),
            "key": torch.tensor([5]),
        }

    mistaken, right = (task(batch(target))[0].detach() for target in (0, 1))
    assert float(right) == pytest.approx(0.0, abs=1e-4)
    expected = DiceCE()(logits, torch.zeros(1, 1, 8, 8, dtype=torch.int64))
    assert float(mistaken) == pytest.approx(float(expected), rel=1e-5)
    assert "known" not in task.state_dict()


def test_probes_take_no_background_that_is_not_certain(tmp_path, monkeypatch):
    store = store_of(tmp_path / "store", [(1, 2), (1,)])
    ids, seen = list(store), []

    def sampled(volume, contract, classes, *rest):
        seen.append((volume.volume_id, tuple(classes)))
        return sample_voxels(volume, contract, classes, *rest)

    monkeypatch.setattr("medssl.evaluate.features.sample_voxels", sampled)
    partial = partly_annotated(store, ids)
    assert partial == {ids[1]}
    encoder = EncoderSpec(name="unet", dims=2, options={"widths": [4, 8]})
    network = random_encoder(Architecture(encoder=encoder), 0)
    contract = InputContract(dims=2, patch_size=[16, 16])
    found = voxel_features(network, store, ids, contract, [0, 1, 2], per_class=5, partial=partial)
    assert seen == [(ids[0], (0, 1, 2)), (ids[1], (None, 1, 2))]
    by_volume = {v: found.labels[np.array(found.volume_ids) == v].tolist() for v in ids}
    assert by_volume == {ids[0]: [0] * 5 + [1] * 5 + [2] * 5, ids[1]: [1] * 5}
