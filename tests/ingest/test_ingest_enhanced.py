"""Enhanced images, Siemens mosaics and PET, made in memory; real ones are in
test_ingest_dcm2niix.py."""

from __future__ import annotations

import struct

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import LegacyConvertedEnhancedPETImageStorage as EnhancedPET
from pydicom.uid import PositronEmissionTomographyImageStorage

from medssl.ingest.dicom import find_volumes
from medssl.ingest.run import ingest
from medssl.store import Store

ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"


def group(**tags):
    item = Dataset()
    for name, value in tags.items():
        setattr(item, name, value)
    return pydicom.Sequence([item])


def frame(height, *, time=None, slope=None, stack="1", position=1):
    item = Dataset()
    item.FrameContentSequence = group(StackID=stack, InStackPositionNumber=position)
    if time is not None:
        item.FrameContentSequence[0].TemporalPositionIndex = time
        item.FrameContentSequence[0].DimensionIndexValues = [position, time]
    item.PlanePositionSequence = group(ImagePositionPatient=[0.0, 0.0, height])
    if slope is not None:
        item.PixelValueTransformationSequence = group(
            RescaleSlope=slope, RescaleIntercept=1, RescaleType="US"
        )
    return item


@pytest.fixture
def enhanced(make_slice):
    """A file of 3 x 4 frames; the pixels of frame f are all f."""

    def make(frames, sop_class=ENHANCED_MR, **tags):
        pixels = np.repeat(np.arange(len(frames), dtype=np.uint16), 12).reshape(-1, 4)
        data = make_slice(pixels, SOPClassUID=sop_class, **tags)
        del data.ImageOrientationPatient, data.ImagePositionPatient, data.PixelSpacing
        data.Rows, data.NumberOfFrames = 3, len(frames)
        shared = Dataset()
        shared.PlaneOrientationSequence = group(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
        shared.PixelMeasuresSequence = group(PixelSpacing=[1.5, 0.5], SliceThickness=2)
        data.SharedFunctionalGroupsSequence = pydicom.Sequence([shared])
        data.PerFrameFunctionalGroupsSequence = pydicom.Sequence(frames)
        return data

    return make


def found_in(folder, *datasets):
    for index, data in enumerate(datasets):
        data.save_as(folder / f"f{index}", enforce_file_format=True)
    return find_volumes(sorted(folder.iterdir()))


def refusal(folder, data):
    volumes, (rejection,) = found_in(folder, data)
    assert volumes == []
    return rejection.code


def test_frames_are_slices_in_space_with_shared_and_own_groups(tmp_path, enhanced):
    frames = [frame(z, slope=s) for z, s in ((4.0, 1), (0.0, 2), (2.0, 0.5))]
    (volume,), rejections = found_in(tmp_path, enhanced(frames))
    assert rejections == []
    assert (volume.kind, volume.part, len(volume.files)) == ("enhanced", "", 1)
    np.testing.assert_array_equal(volume.affine, np.diag([-0.5, -1.5, 2.0, 1.0]))
    assert volume.decode().shape == (1, 4, 3, 3)
    assert volume.decode()[0, 0, 0].tolist() == [1 * 2 + 1, 2 * 0.5 + 1, 0 * 1 + 1]


@pytest.mark.parametrize("files", [1, 2])
def test_times_are_volumes_in_one_file_or_in_several(tmp_path, enhanced, files):
    per_time = [[frame(2.0 * k, time=t, position=k + 1) for k in range(3)] for t in (1, 2)]
    if files == 1:
        datasets = [enhanced([f for pair in zip(*per_time, strict=True) for f in pair])]
    else:
        datasets = [enhanced(frames) for frames in per_time]
    volumes, rejections = found_in(tmp_path, *datasets)
    assert rejections == []
    assert [v.part for v in volumes] == ["temporal_position=1/2", "temporal_position=2/2"]
    first, second = (volume.decode()[0, 0, 0].tolist() for volume in volumes)
    assert (first, second) == (([0, 2, 4], [1, 3, 5]) if files == 1 else ([0, 1, 2], [0, 1, 2]))


def test_a_dimension_tells_volumes_apart_whatever_it_is(tmp_path, enhanced):
    frames = [frame(2.0 * k, time=t, position=k + 1) for k in range(3) for t in (1, 2)]
    for item in frames:
        del item.FrameContentSequence[0].TemporalPositionIndex
    data = enhanced(frames)
    pointers = [Dataset(), Dataset()]
    pointers[0].DimensionIndexPointer = pydicom.tag.Tag("InStackPositionNumber")
    pointers[1].DimensionIndexPointer = 0x20051011
    data.DimensionIndexSequence = pydicom.Sequence(pointers)
    volumes, _ = found_in(tmp_path, data)
    assert [v.part for v in volumes] == ["dimension=1/2", "dimension=2/2"]


def without(name, data):
    for item in data.PerFrameFunctionalGroupsSequence:
        delattr(item, name)
    return data


def test_refusals_of_enhanced_images(tmp_path, enhanced):
    def good():
        return [frame(2.0 * k) for k in range(3)]

    gap = [frame(z) for z in (0.0, 2.0, 6.0, 8.0)]
    cases = {
        "few": (enhanced(good()), "DICOM_TAG_INVALID"),
        "gap": (enhanced(gap), "SLICE_MISSING"),
        "place": (without("PlanePositionSequence", enhanced(good())), "DICOM_TAG_MISSING"),
        "pet": (enhanced(good(), sop_class=EnhancedPET, Modality="PT"), "DICOM_TAG_MISSING"),
        "twice": (enhanced([*good(), *good()]), "TIME_SERIES_UNSUPPORTED"),
    }
    cases["few"][0].NumberOfFrames = 4
    for name, (data, code) in cases.items():
        (tmp_path / name).mkdir()
        assert refusal(tmp_path / name, data) == code, name


def test_truncated_frames_are_refused(tmp_path, enhanced):
    data = enhanced([frame(2.0 * k) for k in range(3)])
    data.PixelData = data.PixelData[:-24]
    (volume,), _ = found_in(tmp_path, data)
    with pytest.raises(Exception, match="FILE_TRUNCATED"):
        volume.decode()


def csa(**values):
    """A CSA2 header with these tags (format: nibabel, "CSA headers")."""
    out = b"SV10\x04\x03\x02\x01" + struct.pack("<2I", len(values), 77)
    for name, found in values.items():
        out += struct.pack("<64si4s3i", name.encode(), len(found), b"FD\0\0", 3, len(found), 77)
        for item in found:
            text = f"{item}".encode() + b"\0"
            text += bytes(-len(text) % 4)
            out += struct.pack("<4i", len(text), len(text), 77, len(text)) + text
    return out


@pytest.fixture
def mosaic(make_slice):
    """Three 2 x 2 tiles in a 4 x 4 picture; the pixels of tile t are 10 t, 10 t + 1, ..."""

    def make(count=(3,), normal=(0.0, 0.0, 1.0), **tags):
        tiles = [np.arange(4).reshape(2, 2) + 10 * t for t in range(4)]
        pixels = np.block([tiles[:2], tiles[2:]]).astype(np.uint16)
        data = make_slice(
            pixels,
            spacing=(3.0, 2.0),
            ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"],
            SpacingBetweenSlices=5,
            **tags,
        )
        block = data.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
        block.add_new(0x10, "OB", csa(NumberOfImagesInMosaic=count, SliceNormalVector=normal))
        return data

    return make


@pytest.mark.parametrize("sign", [1, -1])
def test_tiles_are_slices_along_the_stated_normal(tmp_path, mosaic, sign):
    (volume,), rejections = found_in(tmp_path, mosaic(normal=(0.0, 0.0, 1.0 * sign)))
    assert rejections == []
    assert (volume.kind, volume.decode().shape) == ("mosaic", (1, 2, 2, 3))
    order = [0, 10, 20][::sign]
    assert volume.decode()[0, 0, 0].tolist() == order
    # half of the picture less half of a tile: one column of 2 mm and one row of 3 mm
    bottom = 0.0 if sign == 1 else -10.0
    np.testing.assert_allclose(volume.affine @ [0, 0, 0, 1], [-2.0, -3.0, bottom, 1.0])


def test_refusals_of_mosaics(tmp_path, mosaic):
    sheared = mosaic(normal=(0.0, 0.6, 0.8))
    odd = mosaic(count=(5,))
    bare = mosaic()
    del bare[0x0029, 0x1010]
    broken = mosaic()
    broken[0x0029, 0x1010].value = b"SV10" + bytes(20)
    for name, data in {"sheared": sheared, "odd": odd, "bare": bare, "broken": broken}.items():
        (tmp_path / name).mkdir()
        assert refusal(tmp_path / name, data) == "MOSAIC_UNSUPPORTED", name


def test_one_file_of_two_times_is_two_volumes_in_the_store(tmp_path, enhanced):
    frames = [frame(2.0 * k, time=t, position=k + 1) for t in (1, 2) for k in range(3)]
    data = enhanced(frames)
    half = len(data.PixelData) // 2
    # the times look the same and are still two volumes
    data.PixelData = data.PixelData[:half] * 2
    (tmp_path / "in").mkdir()
    data.save_as(tmp_path / "in" / "file", enforce_file_format=True)
    summary = ingest(tmp_path / "in", tmp_path / "store")
    assert (summary.volumes, summary.counts) == (2, {("used", ""): 1})
    manifest = Store.open(tmp_path / "store").manifest
    assert sorted(manifest["part"]) == ["temporal_position=1/2", "temporal_position=2/2"]
    assert manifest["series_id"].nunique() == manifest["subject_id"].nunique() == 1


def test_pet_is_in_the_units_of_its_slices(tmp_path, make_slice):
    for index, slope in enumerate((0.5, 2.0)):
        data = make_slice(
            np.full((3, 4), 10, np.uint16),
            position=(0.0, 0.0, 2.0 * index),
            SOPClassUID=PositronEmissionTomographyImageStorage,
            RescaleSlope=slope,
            RescaleIntercept=0,
        )
        data.save_as(tmp_path / f"f{index}", enforce_file_format=True)
    (volume,), _ = find_volumes(sorted(tmp_path.iterdir()))
    assert volume.modality == "PT"
    assert volume.decode()[0, 0, 0].tolist() == [5.0, 20.0]
