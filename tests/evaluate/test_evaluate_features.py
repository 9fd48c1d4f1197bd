from __future__ import annotations

import numpy as np
import pytest
import torch

from medssl.bundle import Architecture, EncoderSpec, InputContract
from medssl.errors import MedsslError
from medssl.evaluate.features import (
    interpolate,
    pooled_features,
    random_encoder,
    sample_voxels,
    voxel_features,
)
from medssl.networks import Encoder, pooled


class Coordinates(Encoder):
    """Returns the image itself and its 2-voxel block means as feature maps."""

    def __init__(self, dims):
        super().__init__()
        self.dims, self.in_channels = dims, 1
        self.channels, self.strides = (1, 1), (1, 2)

    def forward(self, x, visible=None):
        pool = torch.nn.functional.avg_pool2d if self.dims == 2 else torch.nn.functional.avg_pool3d
        return [x, pool(x, 2)]


def test_batches_do_not_change_features(pictures, tmp_path, save_bundle):
    bundle = save_bundle(tmp_path / "b", 2, [16, 16])
    encoder, ids = bundle.model().encoder, list(pictures)
    one = pooled_features(encoder, pictures, ids, bundle.spec.contract, batch_size=1)
    many = pooled_features(encoder, pictures, ids, bundle.spec.contract, batch_size=7)
    torch.testing.assert_close(one.values, many.values)
    assert one.volume_ids == ids
    assert one.subject_ids == [pictures[v].subject_id for v in ids]


def test_features_are_those_of_the_normalised_padded_image(pictures, tmp_path, save_bundle):
    bundle = save_bundle(tmp_path / "b", 2, [16, 16])
    encoder, volume_id = bundle.model().encoder, next(iter(pictures))
    image = torch.from_numpy(pictures[volume_id].array().astype(np.float32)) / 127.5 - 1
    padded = torch.zeros(1, 1, 16, 16)
    padded[0, :, 2:14, 2:14] = image
    with torch.no_grad():
        expected = pooled(encoder(padded))
    found = pooled_features(encoder, pictures, [volume_id], bundle.spec.contract)
    torch.testing.assert_close(found.values, expected)


def test_large_images_are_averaged_over_windows(tmp_path, save_bundle, write_store):
    array = np.zeros((1, 4, 8), np.uint8)
    array[:, :, 4:] = 255
    store = write_store(tmp_path / "s", [{"subject": "p", "array": array}])
    contract = save_bundle(tmp_path / "b", 2, [4, 4]).spec.contract
    found = pooled_features(Coordinates(2), store, ["v000"], contract)
    # one window of -1, one of +1
    assert found.values.tolist() == [[0.0]]


def test_random_encoders_repeat_by_seed_and_leave_the_generator_alone():
    architecture = Architecture(
        encoder=EncoderSpec(name="unet", dims=2, options={"widths": [8, 16]})
    )
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    states = [random_encoder(architecture, seed).state_dict() for seed in (0, 0, 1)]
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    assert any(not torch.equal(states[0][k], states[2][k]) for k in states[0])


@pytest.mark.parametrize("size", [(6, 8), (5, 7)])
def test_interpolation_is_exact_on_a_linear_image(size):
    rows, columns = torch.meshgrid(*(torch.arange(float(n)) for n in size), indexing="ij")
    image = (3 * rows + columns)[None, None]
    padded = torch.nn.functional.pad(image, (0, size[1] % 2, 0, size[0] % 2), mode="replicate")
    points = torch.tensor([[2, 2], [2, 1], [1, 4]])
    found = interpolate([image, torch.nn.functional.avg_pool2d(padded, 2)], (1, 2), points)
    expected = (3 * points[:, 0] + points[:, 1]).float()
    torch.testing.assert_close(found, torch.stack([expected, expected], dim=1))


def test_voxels_are_drawn_from_every_class_alike(scans):
    contract = InputContract(dims=3, patch_size=[16, 16, 8])
    for volume_id in scans:
        points, labels = sample_voxels(scans[volume_id], contract, [0, 1], 20, 0)
        assert np.bincount(labels).tolist() == [20, 20]
        np.testing.assert_array_equal(scans[volume_id].label()[0][tuple(points.T)], labels)
        assert len({tuple(p) for p in points}) == 40
    again = sample_voxels(scans[volume_id], contract, [0, 1], 20, 0)[0]
    other = sample_voxels(scans[volume_id], contract, [0, 1], 20, 1)[0]
    assert np.array_equal(points, again)
    assert not np.array_equal(points, other)


@pytest.mark.parametrize("patch", [[16, 16, 8], [6, 10, 4]])
def test_a_voxel_gets_its_own_feature_in_padded_and_in_windowed_volumes(scans, patch):
    contract = InputContract(dims=3, patch_size=patch)
    ids = list(scans)[:3]
    found = voxel_features(Coordinates(3), scans, ids, contract, [0, 1], per_class=10)
    row = 0
    for volume_id in ids:
        volume = scans[volume_id]
        points, labels = sample_voxels(volume, contract, [0, 1], 10, 0)
        image = contract.intensity.normalise(volume.array(), volume.row)[0]
        expected = torch.from_numpy(image[tuple(points.T)])
        part = slice(row, row + len(points))
        torch.testing.assert_close(found.values[part, 0], expected, atol=1e-5, rtol=1e-5)
        assert found.labels[part].tolist() == labels.tolist()
        assert set(found.volume_ids[part]) == {volume_id}
        row += len(points)
    assert row == len(found.values) == 60
    assert tuple(found.pooled.values.shape) == (3, 1)


def test_voxels_follow_the_label_to_another_spacing(tmp_path, write_store):
    label = np.zeros((8, 8, 8), np.uint8)
    label[4:] = 1
    array = (200.0 * label[None] + np.random.default_rng(0).random((1, 8, 8, 8))).astype(np.float32)
    volume = {"subject": "p", "array": array, "label": label, "spacing": (2.0, 1.0, 1.0)}
    store = write_store(tmp_path / "s", [volume])
    contract = InputContract(dims=3, patch_size=[16, 8, 8], spacing=[1.0, 1.0, 1.0])
    found = voxel_features(Coordinates(3), store, ["v000"], contract, [0, 1], per_class=50)
    bright = found.values[:, 0] > found.values[:, 0].mean()
    assert (bright.numpy() == found.labels).all()


def test_other_dimensions_are_refused(scans):
    contract = InputContract(dims=2, patch_size=[8, 8])
    with pytest.raises(MedsslError) as caught:
        pooled_features(Coordinates(2), scans, list(scans), contract)
    assert caught.value.code == "CONTRACT_MISMATCH"
