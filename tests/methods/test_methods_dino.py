from __future__ import annotations

import pytest
import torch
from method_cases import ENCODERS, crops, make

from medssl.methods import Samples
from medssl.methods.dino import DINO, DINOConfig
from medssl.networks import build_encoder, pooled


def test_it_is_the_cross_entropy_of_all_views_with_the_teachers_of_the_large_ones():
    method = make("dino", local_views=2, freeze=0.0).eval()
    method._loss.centre = torch.linspace(-0.1, 0.1, 32)
    views = method.views(crops())
    assert [view.shape[2] for view in views] == [16, 16, 8, 8]
    logs = [(method.projector(pooled(method.encoder(view))) / 0.1).log_softmax(1) for view in views]
    taught = [((method.teacher(v)[1] - method._loss.centre) / 0.04).softmax(1) for v in views[:2]]
    pairs = [
        -(p * log).sum(1).mean()
        for k, p in enumerate(taught)
        for j, log in enumerate(logs)
        if j != k
    ]
    step = method.step(crops())
    torch.testing.assert_close(step.loss, sum(pairs) / 6)
    torch.testing.assert_close(step.teacher_probs, taught[0])


def test_the_centre_follows_the_teacher():
    method = make("dino", centre_momentum=0.5)
    logits = method.teacher(torch.cat(method.views(crops())[:2]))[1]
    method.step(crops())
    torch.testing.assert_close(method._loss.centre, logits.mean(0) / 2)


def test_prototypes_stand_still_at_first_but_have_a_gradient():
    method = make("dino", freeze=0.1)
    for progress, frozen in ((0.0, True), (0.09, True), (0.1, False)):
        method.progress = progress
        method.zero_grad()
        method.step(crops()).loss.backward()
        gradient = method.projector[-1].weight.grad
        assert gradient is not None
        assert bool(gradient.any()) is not frozen
        assert method.projector[0][-1].weight.grad.any()


@pytest.mark.parametrize(
    ("progress", "expected"), [(0.0, 0.04), (0.1, 0.05), (0.3, 0.07), (0.9, 0.07)]
)
def test_the_teacher_warms_up(progress, expected):
    method = make("dino")
    method.progress = progress
    assert method.temperature == pytest.approx(expected)
    assert make("dino", temperature_warmup=0.0).temperature == 0.07


class Fixed(torch.nn.Module):
    """Reads one size, as encoders with learned positions do."""

    dims, in_channels, channels, strides = 2, 1, (4,), (4,)

    def forward(self, x):
        """(B, 1, 16, 16)."""
        if x.shape[2:] != (16, 16):
            raise ValueError("reads 16 x 16")
        return [x.mean((2, 3), keepdim=True).expand(-1, 4, 4, 4)]


def test_an_encoder_that_reads_no_smaller_views_is_refused_before_the_run():
    with pytest.raises(ValueError, match=r"no local views of \[8, 8\] voxels \(reads 16 x 16\)"):
        DINO(DINOConfig(local_views=2), Fixed(), Samples((16, 16)))
    DINO(DINOConfig(local_views=0), Fixed(), Samples((16, 16)))
    encoder = build_encoder("unet", 2, 1, **ENCODERS["unet"])
    with pytest.raises(ValueError, match="local_size has 2 numbers here, not 3"):
        DINO(DINOConfig(local_views=1, local_size=[8, 8, 8]), encoder, Samples((16, 16)))
