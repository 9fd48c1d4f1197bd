"""Radiographs: 2D, with their pixel spacing, bright is high."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from medssl.ingest.dicom import find_volumes
from medssl.ingest.run import ingest
from medssl.store import Store
from medssl.store.export import export

CR, DX, MG = (f"1.2.840.10008.5.1.4.1.1.1{end}" for end in ("", ".1", ".2"))
PIXELS = np.arange(12, dtype=np.uint16).reshape(3, 4) + 100


@pytest.fixture
def shoot(tmp_path, make_slice):
    """Write radiographs into one series; None deletes a tag."""

    def make(*tags, sop_class=DX):
        (tmp_path / "in").mkdir(exist_ok=True)
        for index, more in enumerate(tags):
            data = make_slice(PIXELS + 100 * index, SOPClassUID=sop_class, bits=12)
            del data.ImageOrientationPatient, data.ImagePositionPatient, data.PixelSpacing
            data.InstanceNumber = index
            for name, value in more.items():
                setattr(data, name, value)
            data.save_as(tmp_path / "in" / f"f{9 - index}", enforce_file_format=True)
        return sorted((tmp_path / "in").iterdir())

    return make


@pytest.mark.parametrize(
    ("tags", "spacing"),
    [
        ({"ImagerPixelSpacing": [0.15, 0.2]}, (0.15, 0.2)),
        ({"NominalScannedPixelSpacing": [0.3, 0.4]}, (0.3, 0.4)),
        ({"ImagerPixelSpacing": [0.15, 0.2], "PixelSpacing": [0.1, 0.12]}, (0.1, 0.12)),
    ],
)
@pytest.mark.parametrize(("sop_class", "modality"), [(CR, "CR"), (DX, "DX"), (MG, "MG")])
def test_a_radiograph_is_a_2d_volume_with_its_spacing(shoot, sop_class, modality, tags, spacing):
    (volume,), _ = find_volumes(shoot(tags, sop_class=sop_class), single_slices=True)
    assert (volume.dims, volume.modality, volume.part) == (2, modality, "")
    assert volume.pixel_spacing == spacing
    np.testing.assert_array_equal(volume.decode()[0], PIXELS)


def test_monochrome1_is_turned_round(shoot):
    tags = {"ImagerPixelSpacing": [1, 1], "PhotometricInterpretation": "MONOCHROME1"}
    (volume,), _ = find_volumes(shoot(tags), single_slices=True)
    np.testing.assert_array_equal(volume.decode()[0], 4095 - PIXELS.astype(int))


def test_the_views_of_a_series_are_volumes_in_the_order_of_their_numbers(shoot):
    views = [{"ImagerPixelSpacing": [1, 1]}] * 2
    volumes, rejections = find_volumes(shoot(*views), single_slices=True)
    assert rejections == []
    assert [volume.part for volume in volumes] == ["image=1/2", "image=2/2"]
    assert [int(volume.decode().min()) for volume in volumes] == [100, 200]


def test_without_a_spacing_it_is_refused_unless_allowed(shoot):
    files = shoot({})
    _, (rejection,) = find_volumes(files, single_slices=True)
    assert rejection.code == "SPACING_UNKNOWN"
    (volume,), _ = find_volumes(files, single_slices=True, allow={"SPACING_UNKNOWN"})
    assert (volume.pixel_spacing, volume.defects) == ((1.0, 1.0), ["SPACING_UNKNOWN"])
    _, (rejection,) = find_volumes(shoot({"PixelSpacing": [0, 1]}), single_slices=True)
    assert rejection.code == "SPACING_INVALID"


def test_store_and_export_keep_the_spacing(shoot, tmp_path):
    shoot({"ImagerPixelSpacing": [0.15, 0.2]})
    ingest(tmp_path / "in", tmp_path / "store")
    store = Store.open(tmp_path / "store")
    assert store[next(iter(store))].spacing == (0.15, 0.2)
    export(tmp_path / "store", tmp_path / "out")
    (file,) = (tmp_path / "out" / "images").iterdir()
    assert nib.load(file).header.get_zooms()[:2] == pytest.approx((0.2, 0.15))


def test_a_single_ct_slice_keeps_its_spacing_too(tmp_path, write_stack):
    write_stack(tmp_path / "in", 1, spacing=(0.7, 0.8))
    ingest(tmp_path / "in", tmp_path / "store")
    store = Store.open(tmp_path / "store")
    assert store[next(iter(store))].spacing == (0.7, 0.8)
