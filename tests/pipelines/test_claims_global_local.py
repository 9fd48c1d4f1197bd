"""The claim of global and local contrast: what made-up results lead to, and a small real run."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from medssl.config import load
from medssl.errors import MedsslError
from medssl.methods.global_local import GlobalLocalConfig
from medssl.studies.cells import COLUMNS
from medssl.studies.claims import Claim

ROOT = Path(__file__).resolve().parents[2]
PRESET = ROOT / "configs/claims/global_local.yaml"


def pipeline():
    file = ROOT / "pipelines/claims/global_local.py"
    spec = importlib.util.spec_from_file_location("claim_of_global_local", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


claim = pipeline()


def results(simclr=0.0, permuted=0.0, few=0.1, many=0.02):
    """Made-up Dice: scratch 0.6 at few labels; `few` and `many` are what the method has more; of
    the gain at few labels, simclr and the permuted arm have these shares."""
    rows = []
    for seed in range(3):
        for labels, gain in (("1", few), ("2", few), ("9", many)):
            for method, share in (
                ("scratch", 0.0), ("simclr", simclr), ("views", 0.5),
                ("global_local", 1.0), ("permuted", permuted),
            ):  # fmt: skip
                value = 0.6 + 0.05 * seed + share * gain + 0.001 * seed * (method == "global_local")
                where = (method, "unet", "hippocampus", labels, "fine-tuned", seed)
                rows += [(*where, "dice", value), (*where, "nsd", 0.0)]
    return pd.DataFrame(rows, columns=COLUMNS)


@pytest.mark.parametrize(
    ("change", "verdict", "failing"),
    [
        ({}, "supported", []),
        ({"simclr": 1.2}, "not supported", [1]),
        ({"permuted": 1.2}, "not supported", [3]),
        ({"many": 0.2}, "not supported", [2]),
        ({"permuted": 0.99}, "inconclusive", [3]),
        ({"few": -0.1, "many": -0.2}, "not supported", [0, 1, 3]),
    ],
)
def test_all_that_is_claimed_must_hold(change, verdict, failing):
    found = claim.tested(results(**change), load(claim.Settings, PRESET))
    assert found.verdict == verdict
    assert [f.decides for f in found.findings] == [True] * 4 + [False] * 12
    assert [k for k, f in enumerate(found.findings[:4]) if f.verdict != "supported"] == failing


def test_the_numbers_are_of_the_arms_they_name():
    found = claim.tested(results(simclr=0.3), load(claim.Settings, PRESET))
    means = [f.mean for f in found.findings]
    assert means[:4] == pytest.approx([0.101, 0.071, 0.08, 0.101])
    by_name = {f.statistic: f.mean for f in found.findings}
    assert by_name["gain over scratch, 9 labelled"] == pytest.approx(0.021)
    assert by_name["gain over G^D-, 2 labelled"] == pytest.approx(0.051)
    assert [row["arm"] for row in found.table] == [
        "scratch", "simclr", "G^D-", "G^D + L^R", "permuted",
    ]  # fmt: skip
    assert found.table[1]["Dice, 1 labelled"] == pytest.approx(0.65 + 0.3 * 0.1)


def test_the_arms_differ_in_what_is_claimed_alone():
    study = load(claim.Settings, PRESET).study()
    assert study.methods() == ["simclr", "views", "global_local", "permuted"]
    (data,) = study.data.values()
    configs = {arm: data.pretraining(arm, "unet", 0, 5) for arm in study.methods()}
    assert configs.pop("simclr").method == "simclr"
    options = {arm: GlobalLocalConfig(**c.options).model_dump() for arm, c in configs.items()}
    whole = options.pop("global_local")
    differ = {arm: {k for k in whole if own[k] != whole[k]} for arm, own in options.items()}
    assert differ == {"views": {"positives", "decoder_blocks"}, "permuted": {"permute_partitions"}}
    assert (
        len({c.model_copy(update={"options": {}}).model_dump_json() for c in configs.values()}) == 1
    )


def test_an_arm_without_a_method_must_be_one():
    study = load(claim.Settings, PRESET).study()
    with pytest.raises(MedsslError, match="METHOD_UNKNOWN"):
        study.model_copy(update={"method": ["simclr", "nothing"]}).methods()


@pytest.fixture
def blobs(tmp_path):
    """A labelled folder of small volumes that are brighter towards the front."""
    generator = np.random.default_rng(0)
    rows = []
    for kind in ("images", "labels"):
        (tmp_path / "data/small" / kind).mkdir(parents=True)
    for number in range(16):
        label = np.zeros((16, 24, 16), np.uint8)
        label[5:11, 6:12, 5:11], label[5:11, 12:18, 5:11] = 1, 2
        image = generator.normal(100, 10, label.shape) + 60 * (label > 0)
        image = image + np.linspace(0, 60, 24)[:, None]
        for kind, array in (("images", image.astype(np.float32)), ("labels", label)):
            nib.save(
                nib.Nifti1Image(array, np.eye(4)), tmp_path / f"data/small/{kind}/{number}.nii.gz"
            )
        rows.append({"file": f"{number}.nii.gz", "subject": f"s{number}"})
    pd.DataFrame(rows).to_csv(tmp_path / "data/small/subjects.csv", index=False)
    return tmp_path


SMALL = [
    "folder=small",
    "seeds=2",
    "few=[1]",
    "many=2",
    "passes=24",
    "encoder_options.widths=[4,8]",
    "pretrain.patch_size=[8,8,8]",
    "pretrain.batch_size=4",
    "options.decoder_blocks=1",
    "finetune.steps=1",
]


@pytest.mark.slow
def test_it_runs_and_goes_on(blobs, capsys):
    out = blobs / "out"
    claim.main(blobs / "data", out, SMALL, PRESET)
    found = Claim.read(out / "global_local.json")
    assert found.verdict in capsys.readouterr().out
    assert [f.units for f in found.findings] == [2] * 12
    cells = sorted(out.glob("cells/*.json"))
    assert len(cells) == 2 * (4 + 5 * 2)  # seeds; pretrainings, arms and numbers of labels
    before = [p.stat().st_mtime_ns for p in cells]
    claim.main(blobs / "data", out, SMALL, PRESET)
    assert [p.stat().st_mtime_ns for p in cells] == before
