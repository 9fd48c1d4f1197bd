from __future__ import annotations

import itertools

import pytest
import torch
from method_cases import case, crops, make
from pydantic import ValidationError

from medssl.errors import MedsslError
from medssl.methods import METHODS, check_views
from medssl.methods.hybrid import HybridConfig, WeightConfig
from medssl.methods.joint import JointEmbedding
from medssl.methods.masked import Masked

MASKED = [name for name, kind in METHODS.items() if issubclass(kind, Masked)]
JOINT = [name for name, kind in METHODS.items() if issubclass(kind, JointEmbedding)]
PAIRS = list(
    dict.fromkeys([*itertools.product(MASKED, ["simclr"]), *itertools.product(["mae"], JOINT)])
)


def options(masked: str, joint: str, **more: object) -> dict[str, object]:
    parts = {"masked_options": case(masked).options, "joint_options": case(joint).options}
    return {"masked": masked, "joint": joint, **parts, **more}


@pytest.mark.parametrize("encoder", ["unet", "vit"])
@pytest.mark.parametrize(("masked", "joint"), PAIRS)
def test_any_masked_goes_with_any_joint_one(masked, joint, encoder):
    method = make("hybrid", encoder, **options(masked, joint))
    method.step(crops()).loss.backward()
    assert all(p.grad is not None for p in method.parameters() if p.requires_grad)
    # What two names share is in the state once.
    places = [value.data_ptr() for value in method.state_dict().values() if value.numel()]
    assert len(places) == len(set(places))
    again = make("hybrid", encoder, **options(masked, joint))
    again.load_state_dict(method.state_dict())


def test_both_train_one_encoder_and_the_losses_add_up():
    method = make("hybrid", masked_weight={"start": 2.0}, joint_weight={"start": 0.5})
    assert method.masked.encoder is method.joint.encoder is method.encoder
    step = method.step(crops())
    first, second = method._own(crops())
    masked, joint = method.masked.step(first), method.joint.step(second)
    torch.testing.assert_close(step.loss, 2 * masked.loss + 0.5 * joint.loss)
    torch.testing.assert_close(step.logs["masked_loss"], masked.loss.detach())
    torch.testing.assert_close(step.logs["joint_loss"], joint.loss.detach())
    assert step.trivial_loss is None
    for rows, expected in zip(step.positives, joint.positives, strict=True):
        torch.testing.assert_close(rows, expected)
    torch.testing.assert_close(step.embedding, joint.embedding)
    moved = method.encoder.levels[0][0].conv1.weight
    with torch.no_grad():
        moved.zero_()
    assert not method.joint.encoder.levels[0][0].conv1.weight.any()


def test_weights_follow_their_schedule():
    straight = WeightConfig(start=1, end=3)
    assert [straight.at(p) for p in (0.0, 0.25, 1.0, 2.0)] == [1.0, 1.5, 3.0, 3.0]
    bent = WeightConfig(start=1, end=3, shape="cosine")
    assert [bent.at(p) for p in (0.0, 0.5, 1.0)] == pytest.approx([1.0, 2.0, 3.0])
    assert bent.at(0.25) < 1.5
    assert WeightConfig(start=0.3).at(0.7) == 0.3
    method = make("hybrid", joint_weight={"start": 0.0, "end": 1.0})
    method.progress = 0.5
    step = method.step(crops())
    torch.testing.assert_close(step.loss, step.logs["masked_loss"] + 0.5 * step.logs["joint_loss"])


def test_both_are_told_how_far_the_run_is():
    method = make("hybrid", **options("mae", "sit"))
    method.number, method.progress = 7, 0.3
    method.step(crops())
    for part in (method.masked, method.joint):
        assert (part.number, part.progress) == (7, 0.3)
    told = []
    method.masked.after_update, method.joint.after_update = told.append, told.append
    method.after_update(0.4)
    assert told == [0.4, 0.4]


def test_the_bundle_is_that_of_the_masked_method():
    method = make("hybrid")
    assert set(method.bundle_state()) == set(method.masked.bundle_state())
    assert any(name.startswith("decoder.") for name in method.bundle_state())


def test_options_are_those_of_the_two_methods():
    config = HybridConfig(masked="gmml", joint_options={"temperature": 0.3})
    assert config.model_dump(mode="json")["joint_options"]["hidden"] == 256
    assert HybridConfig(**config.model_dump(mode="json")) == config
    with pytest.raises(MedsslError, match="Did you mean temperature"):
        HybridConfig(joint_options={"temprature": 0.3})
    for wrong in ({"masked": "simclr"}, {"joint": "mae"}, {"joint": "hybrid"}, {"masked": "none"}):
        with pytest.raises(ValidationError, match="none of the methods that fit"):
            HybridConfig(**wrong)
    off = {"start": 0.0}
    with pytest.raises(ValidationError, match="one weight must be above 0"):
        HybridConfig(masked_weight=off, joint_weight=off)


def test_views_of_either_are_checked_against_the_scans():
    config = HybridConfig(joint_options={"view": {"motion": (5, 2)}})
    check_views(config, ["MR"], "zscore")
    with pytest.raises(MedsslError, match="motion cannot happen to CT") as caught:
        check_views(config, ["CT"], "zscore")
    assert caught.value.where == "joint_options.view"
