import pytest
import torch
from method_cases import case, crops, make
from small_encoders import SMALL
from torch import nn

from medssl.methods import METHODS, Method, Samples, Step
from medssl.methods.simclr import SimCLR
from medssl.networks import Embedder, Projector, Teacher, build_encoder, pooled
from medssl.studies.passes import Cost, count_passes, steps_for


@pytest.mark.parametrize("encoder", sorted(SMALL))
def test_samples_times_views_are_counted_with_every_encoder(encoder):
    name, options = SMALL[encoder]
    config = SimCLR.Config(**case("simclr").options)
    method = SimCLR(config, build_encoder(name, 2, 1, **options), Samples((32, 32), 64))
    assert count_passes(method, crops(4, side=32)) == 8


@pytest.mark.parametrize("encoder", ["unet", "vit"])
def test_partly_visible_images_count(encoder):
    assert count_passes(make("mae", encoder), crops(4)) == 4


class TwoAndTeacher(Method):
    """Two views through a student, the second in halves, and one through a teacher."""

    def __init__(self):
        super().__init__(None, None, None)
        self.encoder = build_encoder("unet", 2, 1, widths=[4, 8])
        self.teacher = Teacher(Embedder(self.encoder, Projector(8, 4, 4)))

    def step(self, crops):
        image = crops.image
        parts = [image, image[:2], image[2:]]
        found = torch.cat([pooled(self.encoder(part)) for part in parts])
        self.teacher(image)
        return Step(found.sum())


def test_teachers_and_parts_of_a_batch_count():
    assert count_passes(TwoAndTeacher(), crops(4)) == 4 + 4 + 4


def test_no_hook_is_left():
    method = make("simclr")
    count_passes(method, crops(2))
    assert not any(m._forward_pre_hooks for m in method.modules() if isinstance(m, nn.Module))


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_goes_through_an_encoder_alike_for_every_sample(name):
    encoder = case(name).encoders[0]
    four, eight = (count_passes(make(name, encoder), crops(n)) for n in (4, 8))
    assert 0 < four == eight / 2


def test_a_slice_is_a_share_of_its_crop():
    method = make("image_volume", dims=3, slices=3)
    # two views of every crop, and two of three of its 16 slices
    assert count_passes(method, crops(4, dims=3)) == pytest.approx(4 * (2 + 2 * 3 / 16))


def test_equal_passes_make_unequal_steps():
    assert steps_for(1000, Cost(2, 0), 10) == 50
    assert steps_for(1000, Cost(4, 0), 10) == 25
    assert steps_for(1, Cost(4, 0), 10) == 1
