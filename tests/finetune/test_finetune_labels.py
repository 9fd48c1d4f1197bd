from medssl.evaluate.targets import class_targets, segmentation_volumes
from medssl.finetune.config import FinetuneConfig
from medssl.finetune.labels import labelled_volumes
from medssl.store import Store


def test_numbers_and_shares_of_subjects_are_nested(blob_store):
    store, config = Store.open(blob_store), FinetuneConfig()
    ids = segmentation_volumes(store)
    whole = labelled_volumes(store, ids, None, config)
    one, half = (labelled_volumes(store, ids, labels, config) for labels in (1, 0.5))
    assert len(whole.train_subjects) == 7
    assert len(half.train_subjects) == 4
    assert set(one.train) < set(half.train) < set(whole.train)
    assert not set(whole.train) & set(whole.test + whole.validation)
    assert whole.test == one.test


def test_other_seeds_label_other_subjects(blob_store):
    store = Store.open(blob_store)
    ids = segmentation_volumes(store)
    chosen = {
        tuple(labelled_volumes(store, ids, 2, FinetuneConfig(label_seed=seed)).train)
        for seed in range(5)
    }
    assert len(chosen) > 1


def test_classes_keep_their_share(blob_store):
    store, config = Store.open(blob_store), FinetuneConfig()
    name, classes, targets = class_targets(store, None)
    assert (name, classes) == ("side", ["0", "1"])
    for count in (2, 4):
        found = labelled_volumes(store, list(targets), count, config, classes=targets)
        assert len(found.train_subjects) == count
        assert {targets[v] for v in found.train} == {0, 1}
