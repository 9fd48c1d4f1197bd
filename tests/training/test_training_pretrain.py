import json

import pytest
import torch
from method_cases import case

from medssl.bundle import Bundle
from medssl.errors import MedsslError
from medssl.methods import METHODS
from medssl.store import Store
from medssl.store.splits import assign_splits
from medssl.training.data import loader
from medssl.training.prepare import prepare
from medssl.training.pretrain import PretrainConfig, automatic_patch, pretrain, resolve
from medssl.training.pretrain_task import crops_of

UNET = {"encoder": "unet", "encoder_options": {"widths": [4, 8]}}
VIT = {
    "encoder": "vit",
    "encoder_options": {"patch_size": 4, "embed_dim": 24, "depth": 1, "heads": 2},
}
BASE = {"steps": 4, "batch_size": 4, "log_every": 1, "checkpoint_every": 2, "device": "cpu"}


def config(method, encoder, **more):
    return PretrainConfig(method=method, **(BASE | encoder | more))


@pytest.mark.parametrize("encoder", [UNET, VIT], ids=["unet", "vit"])
def test_a_run_leaves_a_bundle_its_rows_and_previews(blob_store, tmp_path, encoder):
    result = pretrain(blob_store, tmp_path / "run", config("mae", encoder))
    bundle = Bundle.load(result.bundle)
    store = Store.open(blob_store)
    held_out = [s for s, split in assign_splits(store.manifest).items() if split != "train"]
    assert held_out
    assert not any(bundle.spec.has_seen(s) for s in held_out)
    assert all(bundle.spec.has_seen(s) for s in result.subjects)
    assert bundle.spec.contract.patch_size == [16] * store["vol-0"].dims
    assert bundle.model()(torch.zeros(1, 1, *[16] * store["vol-0"].dims))
    assert [row["step"] for row in result.history.rows] == [1, 2, 3, 4]
    assert [path.name for path in result.previews] == ["step-00000001.png", "step-00000004.png"]
    state = bundle.state()
    assert all(name.startswith(("encoder.", "decoder.")) for name in state)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_in_2d_and_3d(blob_store, tmp_path, method):
    small, dims = case(method), Store.open(blob_store)["vol-0"].dims
    values = {"options": small.options, "steps": 1}
    if small.patch:
        values["patch_size"] = [small.patch] * dims
    encoder = {"unet": UNET, "vit": VIT}[small.encoders[0]]
    result = pretrain(blob_store, tmp_path / "run", config(method, encoder, **values))
    assert [row["step"] for row in result.history.rows] == [1]
    assert result.previews[0].is_file()
    bundle = Bundle.load(result.bundle)
    assert bundle.spec.method == method
    assert bundle.model()(torch.zeros(1, 1, *[16] * bundle.spec.contract.dims))


def test_a_run_draws_the_partitions_that_its_method_makes(blob_store, tmp_path):
    dims = Store.open(blob_store)["vol-0"].dims
    values = {"options": case("global_local").options, "patch_size": [8] * dims, "steps": 1}
    result = pretrain(blob_store, tmp_path / "run", config("global_local", UNET, **values))
    assert (tmp_path / "run/previews/partitions.png").is_file()
    assert [path.name for path in result.previews] == ["step-00000001.png"]


@pytest.mark.parametrize("blob_store", [3], indirect=True)
@pytest.mark.parametrize(("plane", "axis"), [("axial", 2), ("coronal", 1), ("any", None)])
def test_flat_crops_are_divided_across_their_plane(blob_store, tmp_path, plane, axis):
    store = Store.open(blob_store)
    values = {"options": case("global_local").options, "plane": plane, "patch_size": [16, 16]}
    asked, ids = resolve(store, config("global_local", UNET, **values))
    prepared = prepare(store, asked, ids, tmp_path)
    batch = crops_of(next(iter(loader(prepared.source, 10, 0, 1, 0))))
    found = prepared.task.method.partition(batch)
    # a plane's place along the axis across it, in voxels of 1 mm of volumes of 16
    across = batch.place[:, :, :-1].abs().sum(2).argmin(1)
    if axis is not None:
        assert across.tolist() == [axis] * 10
    voxels = batch.place[torch.arange(10), across, -1]
    assert found.tolist() == (voxels // 4 + (4 * across if axis is None else 0)).long().tolist()
    assert len(set(found.tolist())) > 2
    assert prepared.task.method.bands == (None if axis is None else (axis, 4))
    prepared.task.method.step(batch).loss.backward()


def test_options_of_a_method_made_of_two_are_resolved_and_kept(blob_store, tmp_path):
    options = {"masked": "simmim", "masked_options": {"target": "hog"}, "joint_weight": {"end": 0}}
    result = pretrain(blob_store, tmp_path / "run", config("hybrid", VIT, options=options, steps=2))
    kept = Bundle.load(result.bundle).spec.config["options"]
    assert kept["masked_options"]["target"] == "hog"
    assert kept["masked_options"]["mask_ratio"] == 0.6
    assert kept["joint_options"]["temperature"] == 0.2
    assert result.history.rows[-1]["joint_loss"] > 0


@pytest.mark.parametrize("method", ["mae", "simclr"])
def test_interrupted_equals_uninterrupted(blob_store, tmp_path, method, monkeypatch):
    whole = pretrain(blob_store, tmp_path / "whole", config(method, UNET))

    class Killed(Exception):  # noqa: N818
        """Stands for kill -9."""

    def kill(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("medssl.training.pretrain._preview", kill)
        with pytest.raises(Killed):  # at step 1, before any checkpoint
            pretrain(blob_store, tmp_path / "early", config(method, UNET))
    with pytest.raises(MedsslError, match="CHECKPOINT_CORRUPT"):
        pretrain(blob_store, tmp_path / "early", config(method, UNET), resume=True)

    from medssl.methods import method_class

    kind, steps = method_class(method), []

    def step(self, *args):
        steps.append(1)
        if len(steps) == 4:
            raise Killed
        return original(self, *args)

    original = kind.step
    with monkeypatch.context() as patch:
        patch.setattr(kind, "step", step)
        with pytest.raises(Killed):  # in step 4, after the checkpoint of step 2
            pretrain(blob_store, tmp_path / "run", config(method, UNET))
    resumed = pretrain(blob_store, tmp_path / "run", config(method, UNET), resume=True)
    a, b = Bundle.load(whole.bundle).state(), Bundle.load(resumed.bundle).state()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert whole.history.rows == resumed.history.rows
    assert whole.bundle.parent != resumed.bundle.parent


def test_resume_refuses_another_configuration(blob_store, tmp_path):
    pretrain(blob_store, tmp_path / "run", config("mae", UNET))
    with pytest.raises(MedsslError, match="RESUME_MISMATCH") as caught:
        pretrain(blob_store, tmp_path / "run", config("mae", UNET, lr=0.5), resume=True)
    assert caught.value.where == "lr"
    with pytest.raises(MedsslError, match="OUT_EXISTS"):
        pretrain(blob_store, tmp_path / "run", config("mae", UNET))


def test_the_loss_falls(blob_store, tmp_path):
    settings = config("mae", UNET, steps=40, lr=0.01, log_every=1, preview_every=100)
    rows = pretrain(blob_store, tmp_path / "run", settings).history.rows
    first = sum(row["loss"] for row in rows[:5])
    last = sum(row["loss"] for row in rows[-5:])
    assert last < 0.8 * first


def test_a_diverging_run_stops_with_a_message(blob_store, tmp_path):
    with pytest.raises(MedsslError, match="TRAINING_DIVERGED"):
        pretrain(blob_store, tmp_path / "run", config("mae", UNET, lr=1e30, clip=1e30, warmup=0.0))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"method": "nothing"}, "METHOD_UNKNOWN"),
        ({"encoder": "nothing"}, "ENCODER_UNKNOWN"),
        ({"patch_size": [10] * 5}, "CONFIG_INVALID"),
        ({"options": {"mask_ration": 0.5}}, "CONFIG_UNKNOWN_KEY"),
        ({"options": {"mask_cell": 3}}, "CONFIG_INVALID"),
        ({"encoder_options": {"width": 3}}, "CONFIG_INVALID"),
        ({"accumulate": 3}, "CONFIG_INVALID"),
    ],
)
def test_wrong_configurations_are_refused_before_anything_is_written(
    blob_store, tmp_path, change, code
):
    with pytest.raises(MedsslError, match=code):
        pretrain(blob_store, tmp_path / "run", PretrainConfig(**(BASE | UNET | change)))
    assert not (tmp_path / "run").exists()


def test_run_folder_holds_no_path(blob_store, tmp_path):
    pretrain(blob_store, tmp_path / "run", config("mae", UNET))
    record = (tmp_path / "run" / "run.json").read_text()
    assert str(tmp_path) not in record
    assert json.loads(record)["config"]["method"] == "mae"


def test_automatic_patches_are_multiples_and_bounded():
    assert automatic_patch([[35, 50, 36]] * 3, 3) == [32, 48, 32]
    assert automatic_patch([[512, 512, 100]], 3) == [64, 64, 64]
    assert automatic_patch([[28, 28]], 2) == [32, 32]
    assert automatic_patch([[2, 300]], 2) == [8, 224]


@pytest.mark.parametrize("blob_store", [3], indirect=True)
@pytest.mark.parametrize(
    "change",
    [
        {"plane": "any", "patch_size": [8, 8]},
        {"crop_mm": [16, 16, 16], "patch_size": [8, 8, 8], "cache": "raw"},
        {"balance": ["side"], "foreground": 0.5, "workers": 2},
    ],
    ids=["plane", "extent", "balance"],
)
def test_crops_are_chosen_by_the_configuration(blob_store, tmp_path, change, monkeypatch):
    monkeypatch.setenv("MEDSSL_CACHE", str(tmp_path / "kept"))
    result = pretrain(blob_store, tmp_path / "run", config("mae", UNET, **{"steps": 2} | change))
    contract = Bundle.load(result.bundle).spec.contract
    assert contract.dims == (2 if "plane" in change else 3)
    assert contract.spacing == ([2, 2, 2] if "crop_mm" in change else None)
    assert (tmp_path / "kept").exists() == ("crop_mm" in change)
    assert str(tmp_path) not in (tmp_path / "run" / "run.json").read_text()


def test_spacing_and_extent_together_are_refused(blob_store, tmp_path):
    dims = Store.open(blob_store)["vol-0"].dims
    both = {"crop_mm": [9] * dims, "spacing": [1] * dims}
    with pytest.raises(MedsslError, match="CONFIG_INVALID") as caught:
        pretrain(blob_store, tmp_path / "run", config("mae", UNET, **both))
    assert caught.value.where == "crop_mm"


def test_views_that_cannot_happen_to_the_scans_are_refused(blob_store, tmp_path):
    view = {"view": {"window": [0.5, 1.0]}}
    with pytest.raises(MedsslError, match="window cannot happen to MR"):
        pretrain(blob_store, tmp_path / "run", config("simclr", UNET, options=view))
    assert not (tmp_path / "run").exists()
