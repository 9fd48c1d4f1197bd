"""Faces found and removed in drawn heads; the seeds here were not used to set any threshold."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from medssl.errors import MedsslError
from medssl.ingest.deface import deface
from medssl.ingest.face import face_state
from medssl.ingest.head import model_distance
from medssl.ingest.run import ingest
from medssl.ingest.skin import find_skin, near
from medssl.phantom.face import face
from medssl.store import Store
from medssl.store.grid import from_canonical

SEED = 7_000_001
HEADS = {
    "T1": ("MR", (8.0, -6.0, 10.0)),
    "CT": ("CT", (-6.0, 5.0, -8.0)),
}


@pytest.fixture(scope="module", params=HEADS)
def head(request):
    modality, turn = HEADS[request.param]
    return face(SEED, contrast=request.param, turn=turn, at=(0, 0, 20)), modality


def test_a_face_is_seen_and_removed_and_the_brain_stays(head):
    phantom, modality = head
    image = (phantom.image + (0 if modality == "CT" else 1))[None]
    state = face_state(image, phantom.affine, modality)
    assert state.state == "visible"
    kept = image.copy()
    out, share = deface(image, phantom.affine, modality, state)
    np.testing.assert_array_equal(image, kept)
    changed = (out != image)[0]
    removed = {name: changed[mask].mean() for name, mask in phantom.features.items()}
    assert min(removed["nose"], removed["lips"], removed["chin"]) == 1.0
    assert removed["eyes"] > 0.75
    assert not changed[phantom.brain].any()
    assert 0.02 < share < 0.4
    assert set(np.unique(out[0][changed])) == {-1000.0 if modality == "CT" else 0.0}


def test_what_is_left_shows_no_face(head):
    phantom, modality = head
    out, _ = deface(phantom.image[None], phantom.affine, modality)
    assert face_state(out, phantom.affine, modality).state != "visible"


def test_the_order_of_the_axes_does_not_matter(head):
    phantom, modality = head
    array, affine = from_canonical(phantom.image[None], phantom.affine, "PSL")
    back, _ = deface(array, affine, modality)
    straight, _ = deface(phantom.image[None], phantom.affine, modality)
    turned, _ = from_canonical(straight, phantom.affine, "PSL")
    assert (back != turned).mean() < 0.02  # where the coarse grid starts differs


@pytest.mark.parametrize("axis", [1, 2])
def test_an_affine_that_says_back_or_down_for_front_is_refused(head, axis):
    phantom, modality = head
    wrong = np.flip(phantom.image[None], (1, axis + 1) if axis == 1 else axis + 1)
    with pytest.raises(MedsslError) as raised:
        deface(wrong, phantom.affine, modality)
    assert raised.value.code == "FACE_NOT_REMOVED"


def blob(shape, radii, spacing=4.0, value=200.0):
    """An ellipsoid in air, in the middle but at the top of the field of view."""
    grid = np.meshgrid(*((np.arange(n) - (n - 1) / 2) * spacing for n in shape), indexing="ij")
    inside = sum((axis / radius) ** 2 for axis, radius in zip(grid, radii, strict=True)) < 1
    noise = np.abs(np.random.default_rng(0).normal(0, 3, shape))
    return (noise + value * inside)[None], np.diag([spacing, spacing, spacing, 1.0])


def test_a_crop_smaller_than_a_face_has_none():
    array = np.random.default_rng(0).integers(0, 99, (1, 35, 50, 36))
    assert face_state(array, np.eye(4), "MR").state == "none"


def test_slices_too_far_apart_show_none(head):
    phantom, modality = head
    affine = phantom.affine @ np.diag([1.0, 1.0, 4.0, 1.0])
    state = face_state(phantom.image[None, :, :, ::4], affine, modality)
    assert (state.state, state.reason) == ("none", "slices 12 mm apart")


def test_a_field_of_view_that_ends_above_the_eyes_shows_none(head):
    phantom, modality = head
    top = find_skin(phantom.image, phantom.affine, modality).top
    first = int((top - 65 - phantom.affine[2, 3]) / 3)
    affine = phantom.affine.copy()
    affine[2, 3] += 3 * first
    state = face_state(phantom.image[None, :, :, first:], affine, modality)
    assert state.state == "none"
    assert "above the eyes" in state.reason


def test_a_trunk_has_no_face():
    array, affine = blob((100, 60, 40), (180, 110, 300))
    state = face_state(array, affine, "MR")
    assert (state.state, state.reason) == ("none", "shoulders or trunk at the top")


def test_a_limb_is_told_by_its_name_only():
    array, affine = blob((50, 50, 50), (60, 65, 400))
    assert face_state(array, affine, "MR").state == "unknown"
    assert face_state(array, affine, "MR", "KNEE").state == "none"


def test_the_name_of_another_part_does_not_hide_a_head(head):
    phantom, modality = head
    assert face_state(phantom.image[None], phantom.affine, modality, "KNEE").state == "visible"


def test_an_image_without_air_or_body_is_unknown():
    flat = np.zeros((1, 40, 40, 40), dtype=np.int16)
    assert face_state(flat, np.diag([4.0, 4, 4, 1]), "MR").state == "unknown"


def test_thin_arrays_are_no_trouble():
    affine = np.diag([9.0, 2.0, 2.0, 1.0])
    array = np.random.default_rng(0).normal(100, 20, (1, 8, 64, 64))
    assert face_state(array, affine, "MR").state in ("none", "unknown")


def test_the_models_skin_lies_where_it_should():
    points = np.array([[0.0, 87, 2], [0, 111, -56], [32, 100, -36], [0, -15, 90]])
    distance = model_distance(points)
    assert np.abs(distance[[0, 1, 3]]).max() < 6
    assert distance[2] > 15  # the orbits are hollow


def write(folder, phantom):
    folder.mkdir()
    image = nib.Nifti1Image(phantom.image.astype(np.int16), phantom.affine)
    image.set_qform(phantom.affine, 1)
    nib.save(image, folder / "head.nii.gz")


def test_ingest_flags_and_removes_faces(tmp_path, head):
    phantom, modality = head
    write(tmp_path / "in", phantom)
    summary = ingest(tmp_path / "in", tmp_path / "kept", modality=modality)
    row = Store.open(tmp_path / "kept").manifest.iloc[0]
    assert (row["face"], row["deface"]) == ("unknown", "")  # the phantom is coarse
    assert any("--deface" in note for note in summary.notes)

    summary = ingest(tmp_path / "in", tmp_path / "removed", modality=modality, deface=True)
    row = Store.open(tmp_path / "removed").manifest.iloc[0]
    assert row["face"] == "removed"
    assert row["deface"].startswith("v1 ")
    assert not any("--deface" in note for note in summary.notes)


def test_with_deface_a_head_whose_face_cannot_be_found_is_refused(tmp_path):
    array, affine = blob((50, 60, 60), (75, 95, 90))
    folder = tmp_path / "in"
    folder.mkdir()
    nib.save(nib.Nifti1Image(array[0].astype(np.int16), affine), folder / "ball.nii.gz")
    summary = ingest(folder, tmp_path / "refused", modality="MR", deface=True)
    assert summary.counts == {("rejected", "FACE_NOT_REMOVED"): 1}
    ingest(folder, tmp_path / "kept", modality="MR", deface=True, allow=["FACE_NOT_REMOVED"])
    row = Store.open(tmp_path / "kept").manifest.iloc[0]
    assert (row["face"], list(row["defects"])) == ("unknown", ["FACE_NOT_REMOVED"])


@pytest.mark.parametrize("seed", range(12))
def test_what_is_near_is_what_a_distance_transform_says(seed):
    rng = np.random.default_rng(seed)
    spacing = rng.choice([1.5, 2.9, 3.2, 3.5, 0.7 * 5, 5.0], 3)
    mask = ndimage.gaussian_filter(rng.random(rng.integers(1, 24, 3)), seed / 8) > 0.52
    for reach in (7.0, 14.0):
        distance = ndimage.distance_transform_edt(~mask, sampling=spacing)
        expected = distance <= reach if mask.any() else mask
        np.testing.assert_array_equal(near(mask, spacing, reach), expected)
