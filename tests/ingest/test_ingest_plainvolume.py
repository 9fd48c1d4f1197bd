from __future__ import annotations

import gzip

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from medssl.errors import MedsslError
from medssl.ingest.formats import read_images, read_label
from medssl.ingest.scan import Kind

OBLIQUE = nib.affines.from_matvec(
    nib.eulerangles.euler2mat(0.2, -0.3, 0.4) @ np.diag([-1.5, 2.0, 3.0]), [10, -20, 30]
)
VOXELS = np.random.default_rng(0).integers(-900, 900, (4, 5, 6)).astype(np.int16)
HEADER = """NRRD0004
type: short
dimension: 3
space: left-posterior-superior
sizes: 4 5 6
space directions: (1,0,0) (0,2,0) (0,0,3)
kinds: domain domain domain
endian: little
encoding: raw
space origin: (10,20,30)
"""
META = """ObjectType = Image
NDims = 3
BinaryData = True
BinaryDataByteOrderMSB = False
TransformMatrix = 1 0 0 0 1 0 0 0 1
Offset = 10 20 30
AnatomicalOrientation = RAI
ElementSpacing = 1 2 3
DimSize = 4 5 6
ElementType = MET_SHORT
ElementDataFile = LOCAL
"""
RAW = VOXELS.tobytes("F")
LPS = np.array([[-1.0, 0, 0, -10], [0, -2, 0, -20], [0, 0, 3, 30], [0, 0, 0, 1]])


def itk_image(array, affine):
    """The same voxels at the same places, in ITK's words."""
    lps = np.diag([-1, -1, 1, 1]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image = sitk.GetImageFromArray(array.T)
    image.SetSpacing(spacing)
    image.SetOrigin(lps[:3, 3])
    image.SetDirection((lps[:3, :3] / spacing).ravel())
    return image


def kind_of(path):
    return Kind.METAIMAGE if path.suffix in (".mha", ".mhd") else Kind.NRRD


def read(*files):
    (image,) = read_images(kind_of(files[0]), files)
    return image.array, image.affine


def code_of(*files):
    with pytest.raises(MedsslError) as caught:
        read(*files)
    return caught.value.code


def nrrd(folder, data=RAW, **changes):
    """An NRRD with lines replaced, removed (None) or added; ``_`` in a name is a blank."""
    lines = dict(line.split(": ") for line in HEADER.splitlines()[1:])
    lines |= {name.replace("_", " "): value for name, value in changes.items()}
    text = "".join(f"{name}: {value}\n" for name, value in lines.items() if value is not None)
    path = folder / "a.nrrd"
    path.write_bytes(b"NRRD0004\n# comment\n" + text.encode() + b"key:=value\n\n" + data)
    return path


def meta(folder, data=RAW, **changes):
    lines = dict(line.split(" = ") for line in META.splitlines())
    lines |= changes
    lines["ElementDataFile"] = lines.pop("ElementDataFile")  # it ends the header
    text = "".join(f"{name} = {value}\n" for name, value in lines.items() if value is not None)
    path = folder / "a.mha"
    path.write_bytes(text.encode() + data)
    return path


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["a.mha", "a.nrrd", "a.mhd", "a.nhdr"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64, np.uint32])
def test_what_simpleitk_writes_is_read_where_it_was(tmp_path, name, packed, dtype):
    array = VOXELS.astype(dtype)
    path = tmp_path / name
    sitk.WriteImage(itk_image(array, OBLIQUE), str(path), useCompression=packed)
    data = [p for p in tmp_path.iterdir() if p != path]
    assert len(data) == (name in ("a.mhd", "a.nhdr"))
    voxels, affine = read(path, *data)
    assert (voxels.dtype, voxels.shape) == (dtype, (1, 4, 5, 6))
    np.testing.assert_array_equal(voxels[0], array)
    np.testing.assert_allclose(affine, OBLIQUE, atol=1e-6)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SRA", "PIL", "ARI", "LIP"])
def test_every_orientation_agrees_with_nibabel_by_way_of_simpleitk(tmp_path, codes):
    nifti = nib.Nifti1Image(VOXELS, nib.affines.from_matvec(np.diag([1.0, 2, 3]), [5, 6, 7]))
    wanted = nib.orientations.axcodes2ornt(tuple(codes))
    nifti = nifti.as_reoriented(nib.orientations.ornt_transform([[0, 1], [1, 1], [2, 1]], wanted))
    nib.save(nifti, tmp_path / "a.nii")
    for name in ("a.mha", "a.nrrd"):
        sitk.WriteImage(sitk.ReadImage(str(tmp_path / "a.nii")), str(tmp_path / name))
        voxels, affine = read(tmp_path / name)
        np.testing.assert_array_equal(voxels[0], nifti.dataobj)
        np.testing.assert_allclose(affine, nifti.affine, atol=1e-5)


@pytest.mark.parametrize(
    ("space", "signs"),
    [("left-posterior-superior", (-1, -1)), ("LPS", (-1, -1)), ("right-anterior-superior", (1, 1)),
     ("RAS", (1, 1)), ("left-anterior-superior", (-1, 1))],
)  # fmt: skip
def test_the_space_of_an_nrrd_turns_its_axes_as_simpleitk_turns_them(tmp_path, space, signs):
    path = nrrd(tmp_path, space=space)
    _, affine = read(path)
    expected = np.array([[1.0, 0, 0, 10], [0, 2, 0, 20], [0, 0, 3, 30], [0, 0, 0, 1]])
    np.testing.assert_allclose(affine, np.diag([*signs, 1, 1]) @ expected)
    lps = sitk.ReadImage(str(path)).TransformIndexToPhysicalPoint((3, 2, 1))
    np.testing.assert_allclose((affine @ [3, 2, 1, 1])[:3], np.multiply(lps, (-1, -1, 1)))


def test_big_endian_skips_and_a_slice(tmp_path):
    big = VOXELS.astype(">i2").tobytes("F")
    voxels, affine = read(nrrd(tmp_path, big, endian="big"))
    np.testing.assert_array_equal(voxels[0], VOXELS)
    assert voxels.dtype.isnative
    np.testing.assert_allclose(affine, LPS)
    voxels, affine = read(meta(tmp_path, big, BinaryDataByteOrderMSB="True"))
    np.testing.assert_array_equal(voxels[0], VOXELS)
    np.testing.assert_allclose(affine, LPS)
    (tmp_path / "v.raw").write_bytes(b"before" + RAW)
    header = nrrd(tmp_path, b"", data_file="v.raw", byte_skip="6")
    np.testing.assert_array_equal(read(header, tmp_path / "v.raw")[0][0], VOXELS)
    header = nrrd(tmp_path, b"", data_file="v.raw", byte_skip="-1")
    np.testing.assert_array_equal(read(header, tmp_path / "v.raw")[0][0], VOXELS)
    header = meta(tmp_path, b"", ElementDataFile="v.raw", HeaderSize="-1")
    np.testing.assert_array_equal(read(header, tmp_path / "v.raw")[0][0], VOXELS)
    voxels, affine = read(nrrd(tmp_path, VOXELS[..., 0].tobytes("F"), sizes="4 5 1"))
    assert affine is None
    np.testing.assert_array_equal(voxels[0], VOXELS[..., 0].T)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"space": None}, "AFFINE_INVALID"),
        ({"space": None, "space_dimension": "3"}, "AFFINE_INVALID"),
        ({"space": "scanner-xyz"}, "AFFINE_INVALID"),
        ({"space_directions": None}, "AFFINE_INVALID"),
        ({"space_directions": None, "spacings": "1 1 1"}, "AFFINE_INVALID"),
        ({"spacings": "1 1 1"}, "AFFINE_AMBIGUOUS"),
        ({"space_directions": "none (0,2,0) (0,0,3)"}, "AFFINE_INVALID"),
        ({"space_directions": "(1,0,0) (0,nan,0) (0,0,3)"}, "AFFINE_INVALID"),
        ({"space_directions": "(1,0,0) (1,0,0) (0,0,3)"}, "AFFINE_INVALID"),
        ({"space_origin": None}, "AFFINE_INVALID"),
        ({"space_units": '"um" "um" "um"'}, "AFFINE_INVALID"),
        ({"dimension": "2"}, "FORMAT_UNSUPPORTED"),
        ({"dimension": "4"}, "TIME_SERIES_UNSUPPORTED"),
        ({"kinds": "domain domain time"}, "TIME_SERIES_UNSUPPORTED"),
        ({"dimension": "4", "kinds": "RGB-color domain domain domain"}, "COLOUR_UNSUPPORTED"),
        ({"dimension": "4", "kinds": "vector domain domain domain"}, "PIXEL_FORMAT_UNSUPPORTED"),
        ({"type": "block"}, "PIXEL_FORMAT_UNSUPPORTED"),
        ({"old_min": "0"}, "PIXEL_FORMAT_UNSUPPORTED"),
        ({"encoding": "ascii"}, "FORMAT_UNSUPPORTED"),
        ({"line_skip": "1"}, "FORMAT_UNSUPPORTED"),
        ({"byte_skip": "4"}, "FORMAT_UNSUPPORTED"),
        ({"endian": None}, "FILE_UNREADABLE"),
        ({"sizes": "4 5"}, "FILE_UNREADABLE"),
        ({"sizes": "4 0 6"}, "VOLUME_EMPTY"),
        ({"sizes": "4 5 7"}, "FILE_TRUNCATED"),
        ({"sizes": "4 5 5"}, "FILE_UNREADABLE"),
        ({"sizes": "99999999999 99999999999 9"}, "FILE_TRUNCATED"),
        ({"colour": "red"}, "FILE_UNREADABLE"),
        ({"Segment0_Name": None, "data_file": "/etc/passwd"}, "DATA_FILE_MISSING"),
        ({"data_file": "../a.raw"}, "DATA_FILE_MISSING"),
        ({"data_file": "LIST"}, "FORMAT_UNSUPPORTED"),
        ({"data_file": "a%02d.raw 1 9 1"}, "FORMAT_UNSUPPORTED"),
    ],
)
def test_an_nrrd_that_does_not_say_enough_is_refused(tmp_path, changes, code):
    assert code_of(nrrd(tmp_path, **changes)) == code


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"TransformMatrix": None}, "AFFINE_INVALID"),
        ({"Offset": None}, "AFFINE_INVALID"),
        ({"ElementSpacing": None}, "SPACING_UNKNOWN"),
        ({"ElementSpacing": "1 0 3"}, "SPACING_INVALID"),
        ({"AnatomicalOrientation": None}, "AFFINE_INVALID"),
        ({"AnatomicalOrientation": "???"}, "AFFINE_INVALID"),
        ({"AnatomicalOrientation": "LPS"}, "AFFINE_AMBIGUOUS"),
        ({"Position": "0 0 0"}, "AFFINE_AMBIGUOUS"),
        ({"CenterOfRotation": "1 0 0"}, "AFFINE_AMBIGUOUS"),
        ({"DistanceUnits": "um"}, "AFFINE_INVALID"),
        ({"TransformMatrix": "2 0 0 0 1 0 0 0 1"}, "AFFINE_INVALID"),
        ({"TransformMatrix": "1 0 0 0.8 0.6 0 0 0 1"}, "AFFINE_INVALID"),
        ({"NDims": "2"}, "FORMAT_UNSUPPORTED"),
        ({"NDims": "4"}, "TIME_SERIES_UNSUPPORTED"),
        ({"ElementNumberOfChannels": "3"}, "PIXEL_FORMAT_UNSUPPORTED"),
        ({"ElementType": "MET_LONG"}, "PIXEL_FORMAT_UNSUPPORTED"),
        ({"ElementToIntensityFunctionSlope": "2"}, "PIXEL_FORMAT_UNSUPPORTED"),
        ({"BinaryData": "False"}, "FORMAT_UNSUPPORTED"),
        ({"BinaryDataByteOrderMSB": None}, "FILE_UNREADABLE"),
        ({"ObjectType": "Tube"}, "FORMAT_UNSUPPORTED"),
        ({"DimSize": "4 5 7"}, "FILE_TRUNCATED"),
        ({"DimSize": "4 5 5"}, "FILE_UNREADABLE"),
        ({"HeaderSize": "16"}, "FORMAT_UNSUPPORTED"),
        ({"CompressedData": "True"}, "FILE_TRUNCATED"),
        ({"ElementDataFile": "a%02d.raw 1 9 1"}, "FORMAT_UNSUPPORTED"),
        ({"ElementDataFile": "LIST"}, "FORMAT_UNSUPPORTED"),
        ({"ElementDataFile": "../../a.raw"}, "DATA_FILE_MISSING"),
        ({"ElementDataFile": "C:\\a.raw"}, "DATA_FILE_MISSING"),
    ],
)
def test_a_metaimage_that_does_not_say_enough_is_refused(tmp_path, changes, code):
    assert code_of(meta(tmp_path, **changes)) == code


def test_damaged_streams_and_bombs(tmp_path):
    packed = gzip.compress(RAW)
    np.testing.assert_array_equal(read(nrrd(tmp_path, packed, encoding="gzip"))[0][0], VOXELS)
    assert code_of(nrrd(tmp_path, packed[:-9], encoding="gzip")) == "FILE_TRUNCATED"
    broken = bytearray(packed)
    broken[-6] ^= 1  # the checksum
    assert code_of(nrrd(tmp_path, bytes(broken), encoding="gzip")) == "FILE_TRUNCATED"
    bomb = gzip.compress(bytes(2**26))
    assert code_of(nrrd(tmp_path, bomb, encoding="gzip")) == "FILE_UNREADABLE"
    huge = nrrd(tmp_path, packed, encoding="gzip", sizes="99999999 99999999 9")
    assert code_of(huge) == "FILE_TRUNCATED"


def test_nan_and_unending_headers(tmp_path):
    values = VOXELS.astype(np.float32)
    values[1, 1, 1] = np.nan
    assert code_of(nrrd(tmp_path, values.tobytes("F"), type="float")) == "VOXELS_INVALID"
    assert code_of(meta(tmp_path, values.tobytes("F"), ElementType="MET_FLOAT")) == "VOXELS_INVALID"
    for name in ("a.nrrd", "a.mha"):
        text = HEADER if name == "a.nrrd" else META[: META.index("ElementDataFile")]
        (tmp_path / name).write_text(text)
        assert code_of(tmp_path / name) == "FILE_TRUNCATED"


def test_a_segmentation_is_a_label_map_and_no_image(tmp_path):
    path = nrrd(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"key:=value", b"Segment0_LabelValue:=1"))
    assert code_of(path) == "LABEL_WITHOUT_IMAGE"
    np.testing.assert_array_equal(read_label(Kind.NRRD, [path])[0][0], VOXELS)


def test_what_simpleitk_would_invent_is_what_is_refused(tmp_path):
    """The reason why ITK does not read these for us: it says spacing 1, identity, and no word."""
    path = nrrd(tmp_path, space=None, space_directions=None, space_origin=None)
    image = sitk.ReadImage(str(path))
    assert (image.GetSpacing(), image.GetOrigin()) == ((1, 1, 1), (0, 0, 0))
    assert code_of(path) == "AFFINE_INVALID"
    path = meta(tmp_path, TransformMatrix=None, Offset=None, ElementSpacing=None)
    assert sitk.ReadImage(str(path)).GetSpacing() == (1, 1, 1)
    assert code_of(path) == "AFFINE_INVALID"
