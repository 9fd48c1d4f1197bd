import importlib.util
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from medssl.bundle import Bundle
from medssl.networks import Segmenter, UNetEncoder
from medssl.store import Store
from medssl.store.splits import assign_splits
from medssl.training.pretrain import PretrainConfig, pretrain


@pytest.fixture(scope="module")
def pipeline():
    file = Path(__file__).parents[2] / "pipelines" / "probe_parts.py"
    spec = importlib.util.spec_from_file_location("probe_parts", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules["probe_parts"] = module
    spec.loader.exec_module(module)
    return module


def test_parts_are_the_maps_between_image_and_logits(pipeline):
    model = Segmenter(UNetEncoder(3, 1, widths=(4, 8, 16)), 3)
    parts = pipeline.Parts(model)
    x = torch.randn(1, 1, 8, 12, 8)
    maps = parts(x)
    assert parts.names()[0] == "encoder, stride 1"
    assert parts.names()[3:] == [f"decoder, stride {n}" for n in (4, 2, 1)]
    assert [m.shape[1] for m in maps] == list(parts.channels)
    assert [8 // m.shape[2] for m in maps] == list(parts.strides)
    assert torch.equal(model.decoder.head(maps[-1]), model(x))


def test_the_table_has_a_row_for_every_part(pipeline, blob_store, tmp_path):
    options = {"encoder_options": {"widths": [4, 8]}, "steps": 2, "batch_size": 2, "device": "cpu"}
    bundle = pretrain(blob_store, tmp_path / "p", PretrainConfig(**options)).bundle
    store = Store.open(blob_store)
    if "validation" not in assign_splits(store.manifest).values():
        pytest.skip("the store has no validation subject")
    table = pipeline.probe(store, Bundle.load(bundle), [1, 2], 2)
    assert len(table) == 2 * 2 * 2 * 5
    text = pipeline.markdown(table)
    assert text.count("| encoder, stride 1 |") == 2
    assert text.count("| all levels |") == 2


def test_differences_are_of_pairs(pipeline):
    rows = [
        {"labels": 1, "part": "encoder", "seed": seed, "arm": arm, "auroc": value}
        for seed in (0, 1)
        for arm, value in (("random", 0.5), ("pretrained", 0.75))
    ]
    text = pipeline.markdown(pd.DataFrame(rows))
    assert "| 0.500 | 0.750 | +0.250 [+0.250, +0.250] | 2 | supported |" in text
