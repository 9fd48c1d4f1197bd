"""What is asked of every method."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from method_cases import ENCODERS, case, crops, make
from small_encoders import SMALL

from medssl.methods import METHODS, Samples
from medssl.networks import EncoderOnly, build_encoder

PAGES = Path(__file__).resolve().parents[2] / "docs" / "methods"
HEADINGS = ["The idea", "The equation", "Good for", "Defaults", "What is different here"]
RUNS = [(name, encoder) for name in METHODS for encoder in case(name).encoders]


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(("name", "encoder"), RUNS)
def test_a_step_depends_on_the_keys_alone_and_reaches_the_encoder(name, encoder, dims):
    first, again, other = (
        make(name, encoder, dims).step(crops(dims=dims, epoch=epoch)) for epoch in (0, 0, 1)
    )
    assert torch.equal(first.loss, again.loss)
    assert not torch.equal(first.loss, other.loss)
    method = make(name, encoder, dims)
    method.step(crops(dims=dims)).loss.backward()
    parameters = dict(method.encoder.named_parameters())
    moved = [n for n, p in parameters.items() if p.grad is not None and p.grad.any()]
    assert len(moved) > 0.8 * len(parameters)
    assert first.embedding is not None
    assert first.embedding.shape == (4, method.encoder.channels[-1])


@pytest.mark.parametrize("encoder", sorted(SMALL))
@pytest.mark.parametrize("name", METHODS)
def test_every_encoder_is_trained_or_refused_with_a_sentence(name, encoder):
    kind, (family, options) = METHODS[name], SMALL[encoder]
    side = 32 if encoder in ("classic", "bottleneck") else 16

    def build():
        torch.manual_seed(0)
        config = kind.Config(**case(name).options)
        return kind(config, build_encoder(family, 2, 1, **options), Samples((side, side), 64))

    if encoder in case(name).refused:
        with pytest.raises(ValueError, match="encoder"):
            build()
        return
    step = build().step(crops(side=side))
    assert step.loss.isfinite()
    step.loss.backward()


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(("name", "encoder"), RUNS)
def test_every_parameter_that_is_trained_gets_a_gradient(name, encoder, dims):
    """DDP waits for the others' gradients of a parameter that one process has none of."""
    method = make(name, encoder, dims)
    method.step(crops(dims=dims)).loss.backward()
    without = [n for n, p in method.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []


@pytest.mark.parametrize(("name", "encoder"), RUNS)
def test_following_the_gradient_lowers_the_loss(name, encoder):
    """On one batch with the same views, the teacher standing still."""
    method = make(name, encoder)
    optimiser = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], lr=1e-3)
    buffers = [b.clone() for b in method.buffers()]
    values = []
    for _ in range(12):
        for buffer, kept in zip(method.buffers(), buffers, strict=True):
            buffer.copy_(kept)  # queues and centres stand still too
        loss = method.step(crops()).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        values.append(float(loss.detach()))
    assert min(values[-3:]) < values[0] - 1e-3 * abs(values[0])


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", METHODS)
def test_views_and_previews_can_be_looked_at(name, dims):
    method, batch = make(name, dims=dims).eval(), crops(dims=dims)
    with torch.no_grad():
        views, shown = method.views(batch), method.preview(batch)
    assert views
    assert len(shown) > 1
    for image in [*views, *shown.values()]:
        assert image.shape[:2] == (4, 1)
        assert image.ndim == dims + 2
        assert image.isfinite().all()


@pytest.mark.parametrize(("name", "encoder"), RUNS)
def test_a_bundle_carries_the_encoder(name, encoder):
    method = make(name, encoder)
    state = method.bundle_state()
    parts = [f"{part}." for part in ("encoder", "decoder", *method.bundle_parts())]
    assert all(key.startswith(tuple(parts)) for key in state)
    model = EncoderOnly(build_encoder(encoder, 2, 1, **ENCODERS[encoder]))
    kept = {key: value for key, value in state.items() if key.startswith("encoder.")}
    model.load_state_dict(kept, strict=True)


@pytest.mark.parametrize("name", METHODS)
def test_in_bfloat16_a_step_is_finite(name):
    with torch.autocast("cpu", torch.bfloat16):
        step = make(name).step(crops())
    assert step.loss.isfinite()
    step.loss.backward()


@pytest.mark.parametrize("name", METHODS)
def test_configs_refuse_what_they_do_not_know(name):
    with pytest.raises(ValueError, match="extra"):
        METHODS[name].Config(temprature=1)


@pytest.mark.parametrize("name", METHODS)
def test_every_key_has_a_place_in_the_docs(name):
    """A page a method: idea, equation, use, defaults with their reasons, differences."""
    text = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", text, re.M) == HEADINGS
    missing = [key for key in METHODS[name].Config.model_fields if f"`{key}`" not in text]
    assert missing == []
