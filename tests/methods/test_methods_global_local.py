from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from method_cases import case, crops, make, places

from medssl.errors import MedsslError
from medssl.finetune.transfer import transfer
from medssl.losses import PartitionContrast, RegionContrast
from medssl.methods import Samples
from medssl.methods.global_local import GlobalLocal, GlobalLocalConfig
from medssl.methods.partitions import axis_number, partition_of
from medssl.networks import Segmenter, build_encoder, pooled
from medssl.networks.patches import crop_to, split_patches

COUNT = 4


def at(*starts, dims=2, across=None):
    """Crops of 16 voxels that begin at these places of volumes of 32, along the first axis; or flat
    ones of volumes, across an axis."""
    batch = crops(len(starts), dims)
    place, extent = places(len(starts), dims)
    if across is not None:
        step = torch.zeros(len(starts), 3, 3)
        plane = [axis for axis in range(3) if axis != across]
        step[:, plane, range(2)] = -1.0  # as rows and columns run
        step[:, plane, 2] = 15.5
        place, extent = step, torch.full((len(starts), 3), 32.0)
    place[:, across or 0, -1] = torch.tensor(starts) + 0.5
    return replace(batch, place=place, extent=extent)


def test_a_partition_is_where_the_centre_lies():
    # the centres lie 8 further on: 8, 15.5, 16, 24 of 32
    batch = at(0.0, 7.5, 8.0, 16.0)
    assert partition_of(batch, 0, COUNT).tolist() == [1, 1, 2, 3]
    # a centre at the far end, or beyond it where a crop is padded, is in the last one
    assert partition_of(at(24.0, 40.0, -9.0), 0, COUNT).tolist() == [3, 3, 0]


@pytest.mark.parametrize("across", [0, 1, 2])
def test_flat_crops_are_numbered_across_their_plane(across):
    batch = at(0.0, 8.0, 31.0, across=across)
    assert partition_of(batch, across, COUNT).tolist() == [0, 1, 3]
    # in planes of all kinds, those of another axis have other numbers
    expected = [n + COUNT * across for n in (0, 1, 3)]
    assert partition_of(batch, None, COUNT).tolist() == expected


def test_the_axis_goes_by_what_crops_are():
    volumes, pictures = Samples((16, 16, 16)), Samples((16, 16))
    assert axis_number(None, volumes) == 2
    assert axis_number("front", volumes) == 1
    assert axis_number(None, pictures) == 0
    assert axis_number("columns", pictures) == 1
    found = {p: axis_number(None, Samples((16, 16), plane=p)) for p in ("axial", "coronal", "any")}
    assert found == {"axial": 2, "coronal": 1, "any": None}
    for axis, samples in (("rows", volumes), ("up", pictures)):
        with pytest.raises(ValueError, match="axis is one of"):
            axis_number(axis, samples)


def test_crops_as_long_as_the_volume_are_refused():
    batch = at(0.0, 0.0, 0.0, 0.0)
    whole = replace(batch, extent=torch.full((4, 2), 20.0))
    with pytest.raises(MedsslError, match="CONFIG_INVALID.*80%"):
        make("global_local").step(whole)
    make("global_local", axis="columns").step(replace(whole, extent=torch.tensor([[20, 32]] * 4)))


def test_a_step_is_the_sum_of_both_losses():
    method, batch = make("global_local").eval(), crops()
    first, second, again = method.views(batch)
    maps = [method.encoder(view) for view in (first, second, again)]
    z1, z2 = (method.projector(pooled(m)) for m in maps[:2])
    far = PartitionContrast(0.1)(z1, z2, partition_of(batch, 0, COUNT), batch.volume)
    made = [method.head(method.decoder(maps[k], v)) for k, v in ((0, first), (2, again))]
    regions = [split_patches(crop_to(m, (15, 15)), (5, 5)) for m in made]
    loss = RegionContrast((5, 5), 13, 0.1)
    near = loss(*(some[:, loss.places] for some in regions))
    step = method.step(batch)
    torch.testing.assert_close(step.logs["global_loss"], far)
    torch.testing.assert_close(step.logs["local_loss"], near)
    torch.testing.assert_close(step.loss, far + near)


def test_the_local_loss_does_not_reach_the_encoder():
    with_, without = make("global_local"), make("global_local", decoder_blocks=0)
    for method in (with_, without):
        method.step(crops()).loss.backward()
    for one, other in zip(with_.encoder.parameters(), without.encoder.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)
    assert not hasattr(without, "decoder")


@pytest.mark.parametrize("options", [{}, {"local_positives": "partitions", "positives": "views"}])
def test_positives_are_what_is_asked_for(options):
    step = make("global_local", **options).step(crops(8))
    alone = make("global_local", **options).step(replace(crops(8), volume=torch.zeros(8).long()))
    changed = {k: bool(step.logs[k] != alone.logs[k]) for k in step.logs}
    assert changed == {"global_loss": not options, "local_loss": bool(options)}


def test_the_view_again_shows_the_same_places():
    method = make("global_local", view={"rotation": 15.0, "crop_scale": (0.4, 1.0)})
    first, second, again = method.views(crops())
    assert torch.equal(first, again)  # nothing of its intensity was to be changed
    assert not torch.equal(first, second)
    first, _, again = make("global_local").views(crops())
    assert not torch.equal(first, again)


def test_permuted_partitions_depend_on_the_keys_alone():
    method, batch = make("global_local", permute_partitions=True), crops(256)
    found = method.partition(batch)
    assert torch.equal(found, method.partition(batch))
    assert torch.equal(found[:7], method.partition(crops(7)))
    assert found.bincount().min() > 40
    assert len(found.bincount()) == COUNT
    assert not torch.equal(found, method.partition(crops(256, epoch=1)))
    # nothing but the losses changes
    for one, other in zip(method.views(batch), make("global_local").views(batch), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(("encoder", "dims"), [("unet", 3), ("vit", 2)])
@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_the_decoder_goes_on_in_segmentation(encoder, dims, blocks):
    side = 16 if blocks > 1 or encoder == "vit" else 24
    method = make("global_local", encoder, dims, side=side, decoder_blocks=blocks)
    state = method.bundle_state()
    trained = {n for n, _ in method.named_parameters() if n.startswith("decoder.")}
    assert trained == {name for name in state if name.startswith("decoder.")}
    model = Segmenter(method.encoder, 3)
    report = transfer(model, state)
    assert report.dropped == []
    stages = [f"decoder.stages.{k}" for k in range(len(method.decoder.stages))]
    fresh = {n.rpartition(".")[0] for n in report.fresh}
    assert not [name for name in fresh if name.startswith(tuple(stages))]
    assert len(stages) == min(blocks, len(model.decoder.stages))
    for name in trained:
        assert torch.equal(model.state_dict()[name], state[name])
    assert "decoder.head" in fresh


def test_what_cannot_work_is_refused():
    def build(size, samples=None, **options):
        config = GlobalLocalConfig(**(case("global_local").options | options))
        encoder = build_encoder("unet", 2, 1, widths=[4, 8, 8])
        return GlobalLocal(config, encoder, samples or Samples((size, size)))

    with pytest.raises(ValueError, match="too few for regions"):
        build(8, decoder_blocks=1)
    build(8, decoder_blocks=2)
    build(8, decoder_blocks=0)
    with pytest.raises(ValueError, match="axis is one of rows, columns"):
        build(16, axis="up")
    flat = build_encoder("unet", 2, 1, widths=[4])
    with pytest.raises(ValueError, match="encoder"):
        GlobalLocal(GlobalLocalConfig(), flat, Samples((16, 16)))


def test_bands_are_what_a_run_draws():
    assert make("global_local").bands == (0, COUNT)
    assert make("global_local", dims=3, axis="front", partitions=3).bands == (1, 3)
    assert make("simclr").bands is None
