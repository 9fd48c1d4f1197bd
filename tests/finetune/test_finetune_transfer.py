import pytest
import torch
from torch import nn

from medssl.errors import MedsslError
from medssl.finetune.transfer import transfer


class Model(nn.Module):
    def __init__(self, channels=1, width=4):
        super().__init__()
        self.encoder = nn.ModuleDict(
            {"stem": nn.Conv2d(channels, width, 3, bias=False), "next": nn.Conv2d(width, width, 3)}
        )
        self.head = nn.Linear(width, 2)


def encoder_state(model):
    return {k: v for k, v in model.state_dict().items() if k.startswith("encoder.")}


def test_equal_encoders_match_and_the_head_stays_fresh():
    source, target = Model(), Model()
    head = target.head.weight.clone()
    report = transfer(target, encoder_state(source) | {"projector.weight": torch.zeros(1)})
    assert report.matched == ["encoder.stem.weight", "encoder.next.weight", "encoder.next.bias"]
    assert report.fresh == ["head.weight", "head.bias"]
    assert report.dropped == ["projector.weight"]
    assert report.encoder_fraction == 1.0
    assert torch.equal(target.encoder["next"].weight, source.encoder["next"].weight)
    assert torch.equal(target.head.weight, head)


def test_other_input_channels_are_adapted_and_keep_the_response():
    source, target = Model(channels=1), Model(channels=3)
    report = transfer(target, encoder_state(source))
    assert report.adapted == ["encoder.stem.weight"]
    image = torch.randn(1, 1, 8, 8)
    expected = source.encoder["stem"](image)
    torch.testing.assert_close(target.encoder["stem"](image.expand(1, 3, 8, 8)), expected)


def test_too_little_fails_loudly_and_changes_nothing():
    source, target = Model(width=8), Model(width=4)
    before = {k: v.clone() for k, v in target.state_dict().items()}
    with pytest.raises(MedsslError, match="TRANSFER_TOO_LITTLE") as caught:
        transfer(target, encoder_state(source))
    assert caught.value.where == "encoder.stem.weight"
    assert all(torch.equal(v, before[k]) for k, v in target.state_dict().items())
