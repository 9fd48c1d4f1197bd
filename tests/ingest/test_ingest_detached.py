from __future__ import annotations

import gzip

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from medssl.errors import Exit
from medssl.store import Store

AFFINE = np.diag([-1.0, 2.0, 3.0, 1.0])
VOXELS = np.random.default_rng(0).integers(0, 900, (4, 5, 6)).astype(np.int16)


def pair(path, kind=nib.Nifti1Pair):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = kind(VOXELS, AFFINE)
    if kind is not nib.AnalyzeImage:
        image.set_qform(AFFINE, 1)
    nib.save(image, path)


def only_volume(tmp_path):
    store = Store.open(tmp_path / "store")
    (volume_id,) = store.manifest["volume_id"]
    return store[volume_id]


@pytest.mark.parametrize("kind", [nib.Nifti1Pair, nib.Nifti2Pair])
def test_a_nifti_pair_is_one_volume_of_two_files(tmp_path, ingested, kind):
    pair(tmp_path / "in" / "a.img", kind)
    summary, rows = ingested()
    assert summary.exit_code is Exit.DONE
    assert rows == {"a.hdr": ("used", ""), "a.img": ("used", "")}
    expected = nib.as_closest_canonical(nib.load(tmp_path / "in" / "a.img"))
    volume = only_volume(tmp_path)
    np.testing.assert_array_equal(volume.array()[0], expected.get_fdata())
    np.testing.assert_allclose(volume.affine, expected.affine)


def test_a_packed_pair_and_one_without_its_img(tmp_path, ingested):
    pair(tmp_path / "in" / "a.img")
    packed = tmp_path / "in" / "a.img.gz"
    packed.write_bytes(gzip.compress((tmp_path / "in" / "a.img").read_bytes()))
    (tmp_path / "in" / "a.img").rename(tmp_path / "in" / "b.img")
    pair(tmp_path / "in" / "c.img")
    (tmp_path / "in" / "c.img").unlink()
    _, rows = ingested()
    assert rows == {
        "a.hdr": ("used", ""),
        "a.img.gz": ("used", ""),
        "b.img": ("ignored", "NOT_AN_IMAGE"),
        "c.hdr": ("rejected", "DATA_FILE_MISSING"),
    }


def test_analyze_is_refused_with_advice(tmp_path, ingested):
    pair(tmp_path / "in" / "a.img", nib.AnalyzeImage)
    summary, rows = ingested()
    assert summary.exit_code is Exit.NOTHING_USABLE
    assert set(rows.values()) == {("rejected", "FORMAT_UNSUPPORTED")}
    text = (tmp_path / "store.private" / "ledger.csv").read_text()
    assert text.count("convert it to NIfTI") == 2


@pytest.mark.parametrize("name", ["a.mhd", "a.nhdr"])
def test_header_and_data_file(tmp_path, ingested, name):
    (tmp_path / "in").mkdir()
    image = sitk.GetImageFromArray(VOXELS.T)
    sitk.WriteImage(image, str(tmp_path / "in" / name))
    _, rows = ingested()
    assert rows == {name: ("used", ""), "a.raw": ("used", "")}
    volume = only_volume(tmp_path)
    np.testing.assert_array_equal(volume.array()[0], VOXELS[::-1, ::-1])  # LPS to RAS
    np.testing.assert_allclose(volume.affine[:3, 3], [-3, -4, 0])


def test_a_data_file_out_of_the_folder_is_not_opened(tmp_path, ingested):
    (tmp_path / "in" / "below").mkdir(parents=True)
    image = sitk.GetImageFromArray(VOXELS.T)
    for name in ("a.mhd", "b.mhd", "c.mhd"):
        sitk.WriteImage(image, str(tmp_path / "in" / "below" / name))
    (tmp_path / "in" / "below" / "a.raw").rename(tmp_path / "secret.raw")
    (tmp_path / "in" / "below" / "b.raw").rename(tmp_path / "in" / "b.raw")
    for name, data in (("a", "../../secret.raw"), ("b", str(tmp_path / "in" / "b.raw"))):
        path = tmp_path / "in" / "below" / f"{name}.mhd"
        path.write_text(path.read_text().replace(f"{name}.raw", data))
    _, rows = ingested()
    assert rows == {
        "b.raw": ("ignored", "NOT_AN_IMAGE"),
        "below/a.mhd": ("rejected", "DATA_FILE_MISSING"),
        "below/b.mhd": ("rejected", "DATA_FILE_MISSING"),
        "below/c.mhd": ("used", ""),
        "below/c.raw": ("used", ""),
    }


def test_one_data_file_of_two_headers_and_one_that_is_an_image(tmp_path, ingested):
    folder = tmp_path / "in"
    folder.mkdir()
    image = sitk.GetImageFromArray(VOXELS.T)
    for name in ("a.mhd", "b.mhd", "c.mhd"):
        sitk.WriteImage(image, str(folder / name))
    pair(folder / "d.img", nib.AnalyzeImage)
    sitk.WriteImage(image, str(folder / "e.nrrd"))
    for name, data in (("b", "a.raw"), ("c", "d.img")):
        path = folder / f"{name}.mhd"
        path.write_text(path.read_text().replace(f"{name}.raw", data))
    (folder / "f.mhd").write_text((folder / "a.mhd").read_text().replace("a.raw", "e.nrrd"))
    _, rows = ingested()
    assert rows == {
        "a.mhd": ("rejected", "DUPLICATE_CONFLICT"),
        "b.mhd": ("rejected", "DUPLICATE_CONFLICT"),
        "a.raw": ("rejected", "DUPLICATE_CONFLICT"),
        "b.raw": ("ignored", "NOT_AN_IMAGE"),
        "c.mhd": ("rejected", "DUPLICATE_CONFLICT"),
        "c.raw": ("ignored", "NOT_AN_IMAGE"),
        "d.hdr": ("rejected", "FORMAT_UNSUPPORTED"),
        "d.img": ("rejected", "DUPLICATE_CONFLICT"),
        "e.nrrd": ("used", ""),
        "f.mhd": ("rejected", "DATA_FILE_MISSING"),
    }


def test_a_header_that_cannot_be_read_takes_its_data_with_it(tmp_path, ingested):
    (tmp_path / "in").mkdir()
    sitk.WriteImage(sitk.GetImageFromArray(VOXELS.T), str(tmp_path / "in" / "a.nhdr"))
    path = tmp_path / "in" / "a.nhdr"
    path.write_text(path.read_text().replace("space: left-posterior-superior\n", ""))
    _, rows = ingested()
    assert set(rows.values()) == {("rejected", "AFFINE_INVALID")}
    assert len(rows) == 2


def test_label_maps_of_every_volume_format(tmp_path, ingested):
    label = (VOXELS % 3).astype(np.uint8)
    for name in ("a.nrrd", "b.mha", "c.mhd"):
        for folder, array in (("images", VOXELS + ord(name[0])), ("labels", label)):
            (tmp_path / "in" / folder).mkdir(parents=True, exist_ok=True)
            path = str(tmp_path / "in" / folder / name)
            sitk.WriteImage(sitk.GetImageFromArray(array.T), path)
    summary, _ = ingested()
    assert summary.counts == {("used", ""): 8}
    store = Store.open(tmp_path / "store")
    assert sorted(store.manifest["source"]) == ["metaimage", "metaimage", "nrrd"]
    for volume_id in store:
        np.testing.assert_array_equal(store[volume_id].label()[0], label[::-1, ::-1])
