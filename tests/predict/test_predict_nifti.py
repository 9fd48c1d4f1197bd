"""NIfTI out: the input's grid to the bit, and none of its text."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medssl.predict.nifti import grid_of, lossless, nifti_grid, write_nifti

OBLIQUE = np.array(
    [[-0.8, 0.3, 0.1, 10.0], [0.2, 1.1, -0.4, -20.0], [0.0, 0.5, 2.0, 5.0], [0, 0, 0, 1.0]]
)
GEOMETRY = ("qform_code", "sform_code", "quatern_b", "qoffset_x", "srow_x", "srow_y", "srow_z")


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("codes", [(1, 1), (0, 2), (1, 0), (4, 3)])
def test_forms_and_codes_are_kept_to_the_bit(
    tmp_path: Path, kind: type[nib.Nifti1Image], codes: tuple[int, int]
) -> None:
    source = kind(np.zeros((5, 6, 7), np.int16), OBLIQUE)
    # As other software writes them: the two forms may differ in the last digits.
    source.set_qform(OBLIQUE + 1e-4, codes[0], strip_shears=True)
    source.set_sform(OBLIQUE, codes[1])
    nib.save(source, tmp_path / "in.nii.gz")
    grid = nifti_grid(tmp_path / "in.nii.gz")
    labels = np.arange(210, dtype=np.uint8).reshape(5, 6, 7)
    write_nifti(tmp_path / "out.nii.gz", labels, grid)
    before, after = nib.load(tmp_path / "in.nii.gz"), nib.load(tmp_path / "out.nii.gz")
    for name in GEOMETRY:
        np.testing.assert_array_equal(after.header[name], before.header[name])
    np.testing.assert_array_equal(after.header["pixdim"][:4], before.header["pixdim"][:4])
    np.testing.assert_array_equal(after.affine, before.affine)
    np.testing.assert_array_equal(grid.affine, before.affine)
    assert type(after.header) is type(before.header)
    assert after.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(after.dataobj), labels)


def test_text_and_extensions_of_the_input_are_left_behind(tmp_path: Path) -> None:
    source = nib.Nifti1Image(np.zeros((5, 6, 7), np.int16), OBLIQUE)
    source.header["descrip"] = source.header["aux_file"] = b"Findme^Never"
    source.header["db_name"], source.header["intent_name"] = b"Findme^Never", b"Findme^Never"
    source.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"Findme^Never"))
    nib.save(source, tmp_path / "in.nii")
    write_nifti(
        tmp_path / "out.nii", np.zeros((5, 6, 7), np.uint8), nifti_grid(tmp_path / "in.nii")
    )
    assert b"Findme" in (tmp_path / "in.nii").read_bytes()
    assert b"Findme" not in (tmp_path / "out.nii").read_bytes()


def test_a_scaled_big_endian_input_gives_plain_labels(tmp_path: Path) -> None:
    header = nib.Nifti1Header(endianness=">")
    source = nib.Nifti1Image(np.zeros((5, 6, 7), np.int16), OBLIQUE, header)
    source.header.set_slope_inter(2.0, -1000.0)
    nib.save(source, tmp_path / "in.nii")
    labels = np.full((5, 6, 7), 3, np.uint8)
    write_nifti(tmp_path / "out.nii", labels, nifti_grid(tmp_path / "in.nii"))
    after = nib.load(tmp_path / "out.nii")
    np.testing.assert_array_equal(np.asarray(after.dataobj), labels)
    np.testing.assert_array_equal(after.affine, nib.load(tmp_path / "in.nii").affine)


def test_a_name_without_an_ending_is_read(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((5, 6, 7), np.int16), OBLIQUE), tmp_path / "in.nii.gz")
    (tmp_path / "in.nii.gz").rename(tmp_path / "IMG0001")
    assert nifti_grid(tmp_path / "IMG0001").shape == (5, 6, 7)


def test_a_grid_from_an_affine(tmp_path: Path) -> None:
    affine = OBLIQUE.copy()
    affine[:3, :3] = np.diag([-0.7, 0.9, 2.0])
    write_nifti(tmp_path / "a.nii.gz", np.zeros((2, 3, 4), np.uint8), grid_of((2, 3, 4), affine))
    image = nib.load(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(image.affine, affine, atol=1e-6)
    assert (image.header["qform_code"], image.header["sform_code"]) == (1, 1)
    np.testing.assert_allclose(image.header.get_qform(), affine, atol=1e-5)
    assert image.header.get_xyzt_units()[0] == "mm"


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.array([True, False]), np.uint8),
        (np.array([0, 300], np.int64), np.int16),
        (np.array([-1, 40000], np.int64), np.int32),
        (np.array([0, 40000], np.uint64), np.uint16),
        (np.array([0, 2**40], np.int64), np.float64),
        (np.array([0.5], np.float16), np.float32),
        (np.array([0.5], np.float64), np.float64),
        (np.array([7], np.int32), np.int32),
    ],
)
def test_types_that_readers_know_without_loss(values: np.ndarray, kind: type) -> None:
    result = lossless(values)
    assert result.dtype == kind
    np.testing.assert_array_equal(result, values)
