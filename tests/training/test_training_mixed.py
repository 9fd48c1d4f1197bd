"""Runs on crops of 3D and of 2D in turn."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from medssl.bundle import Bundle
from medssl.errors import MedsslError
from medssl.evaluate.run import evaluate
from medssl.finetune import FinetuneConfig, finetune
from medssl.store import Store
from medssl.store.splits import assign_splits
from medssl.training.data import loader
from medssl.training.dry_run import dry_run
from medssl.training.folder import as_before
from medssl.training.mixed import by_dims
from medssl.training.prepare import prepare, sized
from medssl.training.pretrain import DECIDED, PretrainConfig, pretrain, resolve

VIT = {
    "encoder": "vit",
    "encoder_options": {"patch_size": 4, "embed_dim": 24, "depth": 1, "heads": 2},
}
BASE = {
    "method": "uni4eye", "options": {"decoder_dim": 12, "decoder_depth": 1}, "steps": 4,
    "batch_size": 4, "log_every": 1, "checkpoint_every": 2, "device": "cpu", "dims": "both",
    "patch_size": [8, 8, 8], "flat": {"patch_size": [16, 8]},
}  # fmt: skip


def config(**more):
    return PretrainConfig(**(BASE | VIT | more))


def source_of(path, settings, out):
    store = Store.open(path)
    settings, ids = resolve(store, settings)
    return prepare(store, settings, ids, out).source


def batches(path, out, workers=0, rank=0, world=1, accumulate=1, first=0, **more):
    settings = config(**more)
    supply = loader(
        source_of(path, settings, out), settings.batch_size, first, 6, workers,
        rank=rank, world=world, accumulate=accumulate,
    )  # fmt: skip
    return [{name: value.clone() for name, value in batch.items()} for batch in supply]


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_steps_see_3d_and_2d_in_turn(both_store, tmp_path):
    made = batches(both_store, tmp_path)
    sizes = [tuple(batch["image"].shape[1:]) for batch in made]
    assert sizes == [(1, 8, 8, 8), (1, 16, 8)] * 3
    assert [tuple(batch["place"].shape) for batch in made[:2]] == [(4, 3, 4), (4, 2, 3)]
    # one epoch of each pool before any volume comes again
    trained = len(resolve(Store.open(both_store), config())[1]) // 2
    for which in (0, 1):
        seen = torch.cat([batch["volume"] for batch in made[which::2]])[:trained]
        assert len(set(seen.tolist())) == trained
        assert set(seen.tolist()) == set(range(which * trained, (which + 1) * trained))


def test_the_pools_are_sampled_as_each_would_be_alone(both_store, tmp_path):
    alone = source_of(both_store, config(method="mae", dims=3, flat=None, options={}), tmp_path)
    made = batches(both_store, tmp_path)
    for turn in range(3):
        for place in range(4):
            expected = alone[4 * turn + place]
            for name in ("image", "key", "volume", "subject", "place"):
                assert torch.equal(made[2 * turn][name][place], expected[name])
    keys = torch.cat([batch["key"] for batch in made])
    assert len(set(keys.tolist())) == len(keys)  # 2D crops are drawn apart from 3D ones


def test_a_subject_has_one_number_in_both(both_store, tmp_path):
    store = Store.open(both_store)
    _, ids = resolve(store, config())
    subjects = {number: {} for number in (0, 1)}
    for step, batch in enumerate(batches(both_store, tmp_path)):
        for volume, subject in zip(batch["volume"], batch["subject"], strict=True):
            subjects[step % 2][store[ids[int(volume)]].subject_id] = int(subject)
    assert subjects[0] == subjects[1]
    assert sorted(subjects[0].values()) == list(range(len(ids) // 2))


@pytest.mark.parametrize("plane", ["axial", "any"])
def test_planes_of_the_volumes_serve_as_2d(both_store, tmp_path, plane):
    flat = {"plane": plane, "patch_size": [8, 8]}
    made = batches(both_store, tmp_path, flat=flat)
    assert tuple(made[1]["image"].shape) == (4, 1, 8, 8)
    assert tuple(made[1]["place"].shape) == (4, 3, 3)
    store = Store.open(both_store)
    settings, ids = resolve(store, config(flat=flat))
    assert {store[v].dims for v in ids} == {3}
    assert by_dims(store, ids, settings.flat) == (ids, ids)
    # the same volume has the same number, whichever way it is cut
    assert max(int(batch["volume"].max()) for batch in made) == len(ids) - 1


def test_batches_do_not_depend_on_who_makes_them(both_store, tmp_path):
    whole = batches(both_store, tmp_path)
    assert all(map(same, batches(both_store, tmp_path, workers=2), whole))
    assert all(map(same, batches(both_store, tmp_path, first=3), whole[3:]))
    parts = [batches(both_store, tmp_path, rank=rank, world=2) for rank in (0, 1)]
    for step, batch in enumerate(whole):
        joined = {k: torch.cat([part[step][k] for part in parts]) for k in batch}
        assert same(joined, batch)
    micro = batches(both_store, tmp_path, accumulate=2)
    assert len(micro) == 12
    for step, batch in enumerate(whole):
        joined = {k: torch.cat([m[k] for m in micro[2 * step : 2 * step + 2]]) for k in batch}
        assert same(joined, batch)


VOLUMES = {
    "method": "image_volume", "encoder": "unet", "encoder_options": {"widths": [4, 8]},
    "options": {"hidden": 8, "projection": 4, "prototypes": 6, "queue": 8},
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(both_store, tmp_path_factory):
    return pretrain(both_store, tmp_path_factory.mktemp("both") / "run", config())


@pytest.fixture(scope="module")
def clustered(both_store, tmp_path_factory):
    """By slices of volumes alone, and by 2D images too."""
    out = tmp_path_factory.mktemp("clustered")
    alone = {"dims": 3, "flat": None, "patch_size": [8, 16, 12]}
    return {
        "both": pretrain(both_store, out / "both", config(**VOLUMES)),
        "3d": pretrain(both_store, out / "3d", config(**VOLUMES, **alone)),
    }


@pytest.mark.parametrize(
    "values",
    [pytest.param({}, marks=pytest.mark.slow), VOLUMES],
    ids=["uni4eye", "image_volume"],
)
def test_two_processes_learn_what_one_does(both_store, tmp_path, values):
    """Each waits for the gradient of every parameter, of those that a step does not use too."""
    asked = BASE | VIT | values | {"optimiser": "sgd", "lr": 0.05, "steps": 5}
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        str(Path(__file__).parent / "mixed_processes.py"), str(both_store), str(tmp_path / "two"),
        json.dumps(asked),
    ]  # fmt: skip
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr[-2000:]
    pretrain(both_store, tmp_path / "one", PretrainConfig(**asked))
    for dims in (2, 3):
        paths = [tmp_path / name / "bundle" for name in ("one", "two")]
        one, two = (Bundle.load(path).for_dims(dims).state() for path in paths)
        assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-5


@pytest.mark.parametrize("kind", ["both", "3d"])
def test_slices_and_their_encoder_are_one_bundle(clustered, kind, blob_store, tmp_path):
    bundle = Bundle.load(clustered[kind].bundle)
    flat, sizes = bundle.for_dims(2), {"both": [16, 8], "3d": [16, 8]}
    assert bundle.spec.architecture.encoder.name == "slices"
    assert (flat.spec.architecture.encoder.name, flat.spec.contract.dims) == ("unet", 2)
    assert flat.spec.contract.patch_size == sizes[kind]
    inner = bundle.model().encoder.of.state_dict()
    own = flat.model().encoder.state_dict()
    assert all(torch.equal(own[name], value) for name, value in inner.items())
    assert bundle.spec.other.shared == {name: f"of.{name}" for name in inner}
    options = FinetuneConfig(steps=1, batch_size=4, log_every=1, device="cpu")
    tuned = finetune("segmentation", blob_store, tmp_path / "t", options, init=bundle.path)
    assert tuned.transfer.encoder_fraction == 1.0
    assert tuned.transfer.dropped == []


def test_one_bundle_holds_both_encoders_and_the_blocks_once(both_store, trained):
    bundle = Bundle.load(trained.bundle)
    flat = bundle.for_dims(2)
    assert (bundle.spec.contract.patch_size, flat.spec.contract.patch_size) == ([8] * 3, [16, 8])
    assert bundle.model()(torch.zeros(1, 1, 8, 8, 8))[-1].shape == (1, 24, 2, 2, 2)
    assert flat.model()(torch.zeros(1, 1, 16, 8))[-1].shape == (1, 24, 4, 2)
    assert all(not name.startswith("other.") for name in bundle.state())
    solid, pictures = bundle.state(), flat.state()
    assert solid.keys() == pictures.keys()
    differ = {name for name in solid if not torch.equal(solid[name], pictures[name])}
    assert differ == {"encoder.embed.weight", "encoder.embed.bias"}
    assert set(bundle.spec.other.shared) == {
        name.removeprefix("encoder.") for name in solid if not name.startswith("encoder.embed")
    }


def test_what_is_held_out_is_held_out_of_both(both_store, trained):
    store, spec = Store.open(both_store), Bundle.load(trained.bundle).spec
    split = assign_splits(store.manifest)
    assert {s for s in split if spec.has_seen(s)} == {s for s in split if split[s] == "train"}


def test_rows_tell_of_both_and_previews_show_both(trained):
    rows = trained.history.rows
    assert [("loss_2d" in row, "loss_3d" in row) for row in rows] == [(False, True)] + [
        (True, True)
    ] * 3
    for row, name in zip(rows, ("loss_3d", "loss_2d") * 2, strict=True):
        assert row[name] == pytest.approx(row["loss"])
    assert [path.name for path in trained.previews[:2]] == [
        "step-00000001.png",
        "step-00000001-2d.png",
    ]
    assert all(path.is_file() for path in trained.previews)


@pytest.mark.parametrize("values", [{}, VOLUMES], ids=["uni4eye", "image_volume"])
def test_interrupted_equals_uninterrupted(
    both_store, tmp_path, trained, clustered, values, monkeypatch
):
    from medssl.methods import method_class

    whole, settings = clustered["both"] if values else trained, config(**values)

    class Killed(Exception):  # noqa: N818
        """Stands for kill -9."""

    kind, steps = method_class(settings.method), []

    def step(self, *args):
        steps.append(1)
        if len(steps) == 4:
            raise Killed
        return original(self, *args)

    original = kind.step
    with monkeypatch.context() as patch:
        patch.setattr(kind, "step", step)
        with pytest.raises(Killed):
            pretrain(both_store, tmp_path / "run", settings)
    resumed = pretrain(both_store, tmp_path / "run", settings, resume=True)
    for dims in (2, 3):
        a, b = (Bundle.load(r.bundle).for_dims(dims).state() for r in (whole, resumed))
        assert all(torch.equal(a[name], b[name]) for name in a)
    assert whole.history.rows == resumed.history.rows


def test_it_is_fine_tuned_and_evaluated_in_either(tmp_path, blob_store, trained):
    options = FinetuneConfig(steps=2, batch_size=4, log_every=1, device="cpu")
    result = finetune("segmentation", blob_store, tmp_path / "tuned", options, init=trained.bundle)
    assert result.transfer.encoder_fraction == 1.0
    assert result.transfer.dropped == []
    tuned = Bundle.load(result.bundle).spec
    assert tuned.contract.dims == Store.open(blob_store)["vol-0"].dims
    assert tuned.other is None
    found = evaluate(trained.bundle, blob_store, fractions=[1.0], seeds=1, device="cpu")
    assert np.isfinite(found.rank["pretrained"])


def test_a_dry_run_goes_through_both(both_store, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    told = dry_run(both_store, config(), seconds=0.5)
    assert told.volumes == len(resolve(Store.open(both_store), config())[1])
    assert all(speed > 0 for speed in told.stages.values())


def test_the_batch_that_fits_fits_both(both_store, tmp_path, monkeypatch):
    asked = []

    def largest(task, sample, *_):
        asked.append(sample["image"].ndim - 2)
        return {3: 6, 2: 4}[asked[-1]]

    monkeypatch.setattr("medssl.training.prepare.largest_batch", largest)
    store = Store.open(both_store)
    settings, ids = resolve(store, config(batch_size="auto"))
    assert sized(store, settings, ids, tmp_path).batch_size == 4
    assert asked == [3, 2]


def test_what_the_store_decided_for_2d_stays(both_store, tmp_path):
    first = config(flat={})
    pretrain(both_store, tmp_path / "run", first)
    kept = as_before(tmp_path / "run", first, DECIDED)
    assert kept.flat.patch_size == [16, 16]
    assert kept.flat.intensity is not None
    again = as_before(tmp_path / "run", config(flat=None), DECIDED)
    assert again.flat == kept.flat.model_copy(update={"cache": "off"})
    stated = as_before(tmp_path / "run", config(flat={"patch_size": [8, 8]}), DECIDED)
    assert stated.flat.patch_size == [8, 8]


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"method": "mae", "options": {}}, "dims"),
        ({"plane": "axial"}, "plane"),
        ({"dims": 3}, "flat"),
        ({"flat": {"patch_size": [8, 8, 8]}}, "patch_size"),
        ({"flat": {"patch_size": [10, 8]}}, "patch_size or options"),
    ],
)
def test_what_does_not_go_together_is_refused(both_store, tmp_path, values, where):
    with pytest.raises(MedsslError, match="CONFIG_INVALID") as caught:
        pretrain(both_store, tmp_path / "run", config(**values))
    assert caught.value.where == where


def test_both_must_be_there(tmp_path, blob_store):
    with pytest.raises(MedsslError, match="NOTHING_USABLE"):
        pretrain(blob_store, tmp_path / "run", config())
