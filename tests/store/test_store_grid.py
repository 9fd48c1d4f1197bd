import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from medssl.store.grid import from_canonical, resample, source_affine, spacing_of, to_canonical


def affine_of(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag(rng.uniform(0.3, 4, 3))
    affine[:3, 3] = rng.uniform(-200, 200, 3)
    return affine


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_canonical_equals_nibabel_and_goes_back_exactly(seed):
    affine = affine_of(seed)
    array = np.random.default_rng(seed).integers(0, 999, (1, 3, 4, 5))
    moved, grid, codes = to_canonical(array, affine)
    oracle = nib.as_closest_canonical(nib.Nifti1Image(array[0].astype(np.int16), affine))
    np.testing.assert_array_equal(moved[0], np.asarray(oracle.dataobj))
    np.testing.assert_allclose(grid, oracle.affine, atol=1e-9)
    assert nib.aff2axcodes(grid) == ("R", "A", "S")
    back, old = from_canonical(moved, grid, codes)
    np.testing.assert_array_equal(source_affine(grid, moved.shape[1:], codes), old)
    np.testing.assert_array_equal(back, array)
    np.testing.assert_allclose(old, affine, atol=1e-9)


def test_spacing_of_an_oblique_affine():
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, -2, 0], [1, 0, 0], [0, 0, 3]])
    assert spacing_of(affine) == (1.0, 2.0, 3.0)


@pytest.mark.parametrize("size", [(8, 6, 10), (3, 9, 5)])
def test_resample_equals_simpleitk_inside(size):
    array = np.random.default_rng(0).normal(size=(1, 6, 6, 6)).astype(np.float32)
    image = sitk.GetImageFromArray(array[0].T)
    zoom = [6 / n for n in size]
    grid = sitk.Resample(
        image,
        size,
        sitk.Transform(),
        sitk.sitkLinear,
        [0.5 * z - 0.5 for z in zoom],
        zoom,
        image.GetDirection(),
        np.nan,
    )
    oracle = sitk.GetArrayFromImage(grid).T
    inside = np.isfinite(oracle)
    assert inside.mean() > 0.3
    np.testing.assert_allclose(resample(array, size, 1)[0][inside], oracle[inside], atol=1e-5)


def test_resample_of_labels_keeps_values_and_same_size_is_untouched():
    label = np.array([0, 0, 7, 7], dtype=np.uint8).reshape(1, 4, 1, 1)
    assert resample(label, (4, 1, 1), 0) is label
    assert resample(label, (8, 1, 1), 0).ravel().tolist() == [0, 0, 0, 0, 7, 7, 7, 7]
