import json

import pytest
import torch
from small_encoders import SMALL

from medssl.bundle import (
    Architecture,
    Bundle,
    BundleSpec,
    EncoderSpec,
    InputContract,
    TaskSpec,
    seen_record,
)
from medssl.errors import MedsslError
from medssl.networks import PlaceEmbedding, build_encoder, build_model

ENCODER = EncoderSpec(name="unet", dims=2, options={"widths": [4, 8]})


def spec(**more):
    values = {
        "kind": "encoder",
        "architecture": Architecture(encoder=ENCODER),
        "contract": InputContract(dims=2, patch_size=[8, 8], modalities=["MR"]),
        **seen_record(["sub-1", "sub-2"]),
    }
    return BundleSpec(**(values | more))


@pytest.fixture
def bundle(tmp_path):
    architecture = Architecture(encoder=ENCODER, task=TaskSpec(kind="segmentation", classes=3))
    model = build_model(architecture.model_dump())
    made = spec(kind="segmentation", architecture=architecture, metrics={"dice": 0.5})
    return Bundle.save(tmp_path / "bundle", model, made), model.eval()


def test_round_trip_gives_the_same_outputs(bundle):
    saved, model = bundle
    loaded = Bundle.load(saved.path)
    image = torch.randn(1, 1, 8, 8)
    assert torch.equal(loaded.model()(image), model(image))
    assert loaded.spec == saved.spec
    assert loaded.spec.versions["torch"]


@pytest.mark.parametrize("kind", SMALL)
def test_every_encoder_survives_a_bundle(tmp_path, kind):
    name, options = SMALL[kind]
    encoder = EncoderSpec(name=name, dims=2, options=options)
    architecture = Architecture(encoder=encoder, task=TaskSpec(kind="classification", classes=2))
    model = build_model(architecture.model_dump()).eval()
    made = spec(kind="classification", architecture=architecture)
    loaded = Bundle.load(Bundle.save(tmp_path / "bundle", model, made).path)
    image = torch.randn(1, 1, 28, 28)
    assert torch.equal(loaded.model()(image), model(image))


def test_an_embedding_goes_along_and_the_encoder_is_read_without_it(tmp_path):
    sizes = {"dim": 5, "fine_stride": 1, "width": 4}
    built = PlaceEmbedding(build_encoder("unet", 2, 1, widths=[4, 8]), **sizes).eval()
    made = spec(architecture=Architecture(encoder=ENCODER, embedding=sizes))
    loaded = Bundle.load(Bundle.save(tmp_path / "bundle", built, made).path)
    assert "- Embedding: 5 values" in (loaded.path / "README.md").read_text()
    image = torch.randn(1, 1, 8, 8)
    for found, expected in zip(loaded.embedding()(image), built(image), strict=True):
        assert torch.equal(found, expected)
    for found, expected in zip(loaded.model()(image), built.encoder(image), strict=True):
        assert torch.equal(found, expected)


def test_bundles_without_an_embedding_load_as_before_and_say_that_they_have_none(bundle):
    file = bundle[0].path / "bundle.json"
    data = json.loads(file.read_text())
    del data["architecture"]["embedding"]  # as earlier versions wrote it
    file.write_text(json.dumps(data))
    loaded = Bundle.load(bundle[0].path)
    image = torch.randn(1, 1, 8, 8)
    assert torch.equal(loaded.model()(image), bundle[1](image))
    with pytest.raises(MedsslError, match="EMBEDDING_MISSING"):
        loaded.embedding()


@pytest.mark.parametrize("change", [{"dim": 6}, {"fine_stride": 3}, {"depth": 3}])
def test_an_embedding_that_does_not_fit_is_refused(tmp_path, change):
    sizes = {"dim": 5, "fine_stride": 1, "width": 4}
    built = PlaceEmbedding(build_encoder("unet", 2, 1, widths=[4, 8]), **sizes)
    other = sizes | change
    made = spec(architecture=Architecture(encoder=ENCODER, embedding=other))
    saved = Bundle.save(tmp_path / "bundle", built, made)
    with pytest.raises(MedsslError, match="BUNDLE_INVALID"):
        saved.embedding()


def test_subjects_are_hashed_and_recognised(bundle):
    loaded = Bundle.load(bundle[0].path)
    assert loaded.spec.has_seen("sub-1")
    assert not loaded.spec.has_seen("sub-3")
    assert "sub-1" not in (loaded.path / "bundle.json").read_text()
    child = spec(**seen_record(["sub-9"], parent=loaded.spec))
    assert child.has_seen("sub-1")
    assert child.has_seen("sub-9")


def test_a_changed_byte_is_found(bundle):
    path = bundle[0].path / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(MedsslError, match="BUNDLE_CORRUPT"):
        Bundle.load(bundle[0].path)


@pytest.mark.parametrize(
    ("text", "code"), [("{", "BUNDLE_INVALID"), ('{"format_version": 9}', "BUNDLE_FORMAT")]
)
def test_a_damaged_spec_is_refused(bundle, text, code):
    (bundle[0].path / "bundle.json").write_text(text)
    with pytest.raises(MedsslError, match=code):
        Bundle.load(bundle[0].path)


def test_weights_of_another_architecture_are_refused(bundle):
    file = bundle[0].path / "bundle.json"
    data = json.loads(file.read_text())
    data["architecture"]["encoder"]["options"]["widths"] = [4, 16]
    file.write_text(json.dumps(data))
    with pytest.raises(MedsslError, match="BUNDLE_INVALID"):
        Bundle.load(bundle[0].path).model()


def test_never_overwrites(bundle):
    with pytest.raises(MedsslError, match="OUT_EXISTS"):
        Bundle.save(bundle[0].path, bundle[1], bundle[0].spec)


@pytest.mark.parametrize(("kind", "outputs"), [("regression", 2), ("segmentation", 1)])
def test_a_task_has_the_outputs_it_needs(kind, outputs):
    with pytest.raises(ValueError, match="regression has one output"):
        TaskSpec(kind=kind, classes=outputs)
