from __future__ import annotations

import copy

import pytest
import torch
from small_encoders import SLICES, SMALL
from torch import nn

from medssl.networks import (
    ENCODERS,
    Classifier,
    EncoderOnly,
    Projector,
    Segmenter,
    UNetEncoder,
    ViT,
    build_encoder,
    build_model,
    pooled,
)


def encoders(dims: int) -> list:
    return [build_encoder(name, dims, 1, **options) for name, options in SMALL.values()]


@pytest.mark.parametrize("size", [(28, 28), (17, 23), (16, 8, 8), (9, 13, 10)])
def test_segmenter_answers_on_the_grid_of_any_image(size: tuple[int, ...]):
    for encoder in encoders(len(size)):
        model = Segmenter(encoder, 3)
        logits = model(torch.randn(2, 1, *size))
        assert logits.shape == (2, 3, *size)
        logits.square().mean().backward()
        missing = [name for name, p in model.named_parameters() if p.grad is None]
        assert missing == []


def test_a_patch_that_is_no_power_of_two():
    encoder = ViT(2, 1, patch_size=6, embed_dim=24, depth=1, heads=2)
    model = Segmenter(encoder, 2)
    assert model.decoder.stage_strides == (3, 1)
    assert model(torch.randn(1, 1, 20, 12)).shape == (1, 2, 20, 12)


@pytest.mark.parametrize("dims", [2, 3])
def test_segmenter_can_learn_one_image(dims: int):
    for kind in ENCODERS:
        if kind == "slices" and dims == 2:
            continue
        torch.manual_seed(0)
        x = torch.randn(1, 1, *(8,) * dims)
        label = (x > 0).long()[:, 0]
        name, options = SLICES if kind == "slices" else SMALL[kind]
        model = Segmenter(build_encoder(name, dims, 1, **options), 2)
        optimiser = torch.optim.AdamW(model.parameters(), 1e-2)
        losses = []
        for _ in range(15):
            loss = nn.functional.cross_entropy(model(x), label)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
        assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("dims", [2, 3])
def test_classifier(dims: int):
    for encoder in encoders(dims):
        model = Classifier(encoder, 5)
        x = torch.randn(3, 1, *(12,) * dims)
        assert model(x).shape == (3, 5)
        features = model.encoder(x)
        vector = pooled(features)
        assert vector.shape == (3, encoder.channels[-1])
        axes = tuple(range(2, dims + 2))
        torch.testing.assert_close(vector, features[-1].mean(axes), rtol=1e-4, atol=1e-5)


def architecture(name: str, options: dict, task: dict | None) -> dict:
    return {
        "encoder": {"name": name, "dims": 3, "in_channels": 1, "options": options},
        "task": task,
    }


@pytest.mark.parametrize(("name", "options"), SMALL.values(), ids=SMALL)
def test_encoder_keys_are_the_same_in_every_model(name: str, options: dict):
    alone = build_model(architecture(name, options, None))
    segment = build_model(architecture(name, options, {"kind": "segmentation", "classes": 3}))
    classify = build_model(architecture(name, options, {"kind": "classification", "classes": 2}))
    assert isinstance(alone, EncoderOnly)
    assert isinstance(segment, Segmenter)
    assert isinstance(classify, Classifier)
    keys = {key: value.shape for key, value in alone.state_dict().items()}
    assert all(key.startswith("encoder.") for key in keys)
    for model in (segment, classify):
        state = model.state_dict()
        own = {key: value.shape for key, value in state.items() if key.startswith("encoder.")}
        assert own == keys
        assert all(value.is_contiguous() for value in state.values())
    x = torch.randn(1, 1, 8, 8, 8)
    segment.load_state_dict(alone.state_dict(), strict=False)
    for a, b in zip(alone(x), segment.encoder(x), strict=True):
        torch.testing.assert_close(a, b)


def test_unknown_task_is_refused():
    with pytest.raises(ValueError, match="no task 'poetry'"):
        build_model(architecture("unet", {}, {"kind": "poetry", "classes": 2}))


def test_models_copy_and_run_in_bf16():
    model = copy.deepcopy(Segmenter(UNetEncoder(3, 1, widths=(8, 16)), 2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.isfinite(model(torch.randn(1, 1, 8, 8, 8)).float()).all()


def test_projector():
    projector = Projector(8, 16, 4, layers=3)
    assert [type(m) for m in projector].count(nn.Linear) == 3
    out = projector(torch.randn(5, 8))
    assert out.shape == (5, 4)
    out.sum().backward()
    with pytest.raises(ValueError, match="at least one layer"):
        Projector(8, 16, 4, layers=0)
