"""Tilted gantries and uneven spacing: onto an orthogonal grid, and masks back to the slices."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from scipy.spatial.transform import Rotation

from medssl.errors import MedsslError
from medssl.ingest.dicom import find_volumes
from medssl.ingest.resample import resample, target_grid
from medssl.ingest.run import ingest
from medssl.store import Store
from medssl.store.export import export
from medssl.store.original import OriginalGrid, to_original

ROWS, COLUMNS = 40, 36
SPACING = (0.9, 1.1)  # between rows, between columns, mm


def phantom(x, y, z):
    """A sphere of 200 HU in air of -1000, LPS mm, with an edge as soft as a scanner's."""
    distance = np.sqrt(x**2 + y**2 + z**2)
    return np.rint(-1000 + 1200 / (1 + np.exp((distance - 11) / 0.4)))


def slices(heights, shear=(0.0, 0.0), turn=None, values=phantom, **tags):
    """Tilted CT slices: each lies `shear` mm along rows and columns further for each mm along the
    normal; the whole turned by a rotation matrix. Returns data sets, lowest slice first."""
    axes = np.eye(3) if turn is None else turn
    middle = np.array([SPACING[1] * (COLUMNS - 1), SPACING[0] * (ROWS - 1)]) / 2
    made = []
    for number, height in enumerate(heights):
        first = np.array([shear[0] * height - middle[0], shear[1] * height - middle[1], height])
        column = first[0] + SPACING[1] * np.arange(COLUMNS)[None, :]
        row = first[1] + SPACING[0] * np.arange(ROWS)[:, None]
        x, y, z = np.einsum("ij,jrc->irc", axes, np.stack(np.broadcast_arrays(column, row, height)))
        data = pydicom.Dataset()
        data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, generate_uid()
        data.StudyInstanceUID, data.SeriesInstanceUID = "1.2.1", "1.2.3"
        data.FrameOfReferenceUID, data.PatientID, data.Modality = "1.2.4", "P1", "CT"
        data.ImageType, data.InstanceNumber = ["ORIGINAL", "PRIMARY", "AXIAL"], number + 1
        data.SeriesNumber, data.Manufacturer = 2, "phantom"
        data.StudyDate, data.StudyTime, data.AcquisitionTime = "20200101", "120000", "120000"
        data.Rows, data.Columns, data.SamplesPerPixel = ROWS, COLUMNS, 1
        data.PhotometricInterpretation, data.PixelRepresentation = "MONOCHROME2", 1
        data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
        data.RescaleSlope, data.RescaleIntercept = "1", "0"
        data.PixelSpacing, data.SliceThickness = list(SPACING), 2
        cosines = [*axes[:, 0], *axes[:, 1]]
        data.ImageOrientationPatient = [f"{v:.12f}"[:16] for v in cosines]
        data.ImagePositionPatient = [f"{v:.12f}"[:16] for v in axes @ first]
        data.PixelData = np.rint(values(x, y, z)).astype("<i2").tobytes()
        for name, value in tags.items():
            setattr(data, name, value)
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        made.append(data)
    return made


def write(folder: Path, made) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"im{(7 * i) % 101:03d}" for i in range(len(made))]
    for path, data in zip(paths, made, strict=True):
        data.save_as(path, enforce_file_format=True)
    return paths


def one_volume(paths, allow=()):
    (volume,), rejections = find_volumes(paths, allow=allow)
    assert rejections == []
    return volume


HEIGHTS = np.arange(-16, 17, 2.0)
TURNED = Rotation.from_euler("xyz", (20, -35, 70), degrees=True).as_matrix()
UNEVEN = [-15.0, -12.5, -9.7, -6.5, -4.0, -1.0, 1.5, 4.0, 6.8, 10.0, 12.2, 15.0]


def ramp(x, y, z):
    return 20 * x - 30 * y + 25 * z


def truth_at(affine, shape, values):
    """float64 values at every voxel of a grid in RAS mm."""
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    mm = grid @ affine[:3, :3].T + affine[:3, 3]
    return values(-mm[..., 0], -mm[..., 1], mm[..., 2])


@pytest.mark.parametrize("turn", [None, TURNED])
@pytest.mark.parametrize("shear", [(0.0, 0.3), (0.0, -0.3), (0.2, 0.15)])
def test_a_ramp_is_reproduced_exactly_inside_and_nothing_is_cut(tmp_path, shear, turn):
    paths = write(tmp_path, slices(HEIGHTS, shear, turn, values=ramp))
    volume = one_volume(paths)
    tilt = np.degrees(np.arctan(np.hypot(*shear)))
    assert volume.resampled == f"tilt {tilt:.2f} degrees"
    assert volume.defects == []
    sides = volume.affine[:3, :3]
    np.testing.assert_allclose(sides.T @ sides, np.diag([1.1, 0.9, 2.0]) ** 2, atol=1e-6)
    array = volume.decode()[0]
    assert array.dtype == np.int32
    truth = truth_at(volume.affine, array.shape, ramp)
    right = np.abs(array - truth) <= 1.0  # stored and interpolated values are whole numbers
    # Per slice one rim of half a pixel, where the nearest pixel counts, and padding around it.
    assert right.sum() >= len(HEIGHTS) * (ROWS - 1) * (COLUMNS - 1)
    assert (array[~right] == array.min()).mean() > 0.7
    inner = tuple(slice(8, -8) for _ in range(2))
    middle = len(HEIGHTS) // 2
    assert right[(*inner, middle)].all()


def test_interpolation_equals_the_formula_written_as_a_loop(tmp_path):
    generator = np.random.default_rng(3)
    planes = generator.integers(-1000, 1000, (3, 4, 5))
    affine = np.eye(4)
    affine[:3, 2] = [0.3, -0.45, 2.0]
    grid = OriginalGrid(tuple(affine.ravel()), (4, 5, 3))
    found = resample(lambda k: planes[k].astype(np.float64), grid)
    target = target_grid(grid)
    low = planes.min()
    for c, r, k in np.ndindex(*found.shape):
        x, y, _ = (target.affine @ [c, r, k, 1])[:3] - [0.3 * k, -0.45 * k, 0]
        expected = low
        if -0.5 <= x <= 3.5 and -0.5 <= y <= 4.5:
            x, y = min(max(x, 0), 3), min(max(y, 0), 4)
            left, top = min(int(x), 2), min(int(y), 3)
            a, b = x - left, y - top
            expected = (
                planes[k, left, top] * (1 - a) * (1 - b) + planes[k, left + 1, top] * a * (1 - b)
                + planes[k, left, top + 1] * (1 - a) * b + planes[k, left + 1, top + 1] * a * b
            )  # fmt: skip
        assert found[c, r, k] == pytest.approx(expected, abs=1e-3)


def dice(one, two):
    return 2 * (one & two).sum() / (one.sum() + two.sum())


CASES = [
    (HEIGHTS, (0.0, 0.3), (), "tilt 16.70 degrees"),
    (UNEVEN, (0.0, 0.0), ("SPACING_UNEVEN",), "spacing 2.200 to 3.200 mm, to 2.143 mm"),
    (UNEVEN, (0.0, 0.3), ("SPACING_UNEVEN",),
     "tilt 16.70 degrees; spacing 2.200 to 3.200 mm, to 2.143 mm"),
]  # fmt: skip


@pytest.mark.parametrize(("heights", "shear", "allow", "said"), CASES)
@pytest.mark.parametrize("turn", [None, TURNED])
def test_a_mask_goes_from_the_store_back_to_the_slices(tmp_path, heights, shear, allow, said, turn):
    made = slices(heights, shear, turn)
    write(tmp_path / "in", made)
    ingest(tmp_path / "in", tmp_path / "store", allow=allow)
    store = Store.open(tmp_path / "store")
    volume = store[next(iter(store))]
    assert volume.row["resampled"] == said
    assert list(volume.row["defects"]) == list(allow)
    mask = (np.asarray(volume.array()) > -400).astype(np.uint8)
    back = to_original(mask, volume.affine, OriginalGrid.of_row(volume.row))[0]
    direct = np.stack([(data.pixel_array > -400).T for data in made], axis=-1)
    assert back.shape == (COLUMNS, ROWS, len(made))
    # Between unevenly spaced slices the nearest voxel can be half a slice away.
    assert dice(back.astype(bool), direct) > (0.95 if allow else 0.97)


@pytest.mark.parametrize(("heights", "shear", "allow", "said"), CASES)
def test_export_puts_volumes_back_on_their_slices(tmp_path, heights, shear, allow, said):
    made = slices(heights, shear)
    write(tmp_path / "in", made)
    ingest(tmp_path / "in", tmp_path / "store", allow=allow)
    export(tmp_path / "store", tmp_path / "out", original_grid=True)
    (file,) = (tmp_path / "out" / "images").glob("*.nii.gz")
    image = nib.load(file)
    truth = np.stack([data.pixel_array.T for data in made], axis=-1)
    assert image.shape == truth.shape
    assert dice(image.get_fdata() > -400, truth > -400) > 0.97
    assert bool(image.header["sform_code"]) == (not allow)
    if not allow:
        np.testing.assert_allclose(image.affine[:3, 2], [0, -0.6, 2], atol=1e-5)
    else:
        grid = read_json(tmp_path / "out" / "images")
        np.testing.assert_allclose(grid["positions"], np.array(heights) - heights[0], atol=1e-6)


def read_json(folder):
    (file,) = folder.glob("*.json")
    return json.loads(file.read_text(encoding="utf-8"))


def test_an_even_straight_volume_is_not_resampled(tmp_path):
    volume = one_volume(write(tmp_path, slices(HEIGHTS)), allow={"SPACING_UNEVEN"})
    assert (volume.resampled, volume.original, volume.defects) == ("", None, [])


def test_unevenly_spaced_slices_stay_where_they_are_and_between_them_it_is_linear(tmp_path):
    volume = one_volume(write(tmp_path, slices(UNEVEN, values=ramp)), allow={"SPACING_UNEVEN"})
    array = volume.decode()[0]
    assert np.abs(array - truth_at(volume.affine, array.shape, ramp)).max() <= 1
    assert volume.defects == ["SPACING_UNEVEN"]
    ends = volume.affine @ np.array([[0, 0, 0, 1], [0, 0, array.shape[2] - 1, 1]]).T
    np.testing.assert_allclose(ends[2], [UNEVEN[0], UNEVEN[-1]])


def test_two_slices_almost_at_one_place_do_not_make_a_thousand():
    affine = tuple(np.eye(4).ravel())
    with pytest.raises(MedsslError, match="SPACING_UNEVEN"):
        target_grid(OriginalGrid(affine, (4, 4, 4), (0.0, 0.01, 10.0, 21.0)))


def test_a_stated_tilt_that_positions_do_not_show_is_refused_unless_allowed(tmp_path):
    paths = write(tmp_path, slices(HEIGHTS, GantryDetectorTilt="-16.7"))
    _, (rejection,) = find_volumes(paths)
    assert rejection.code == "GANTRY_TILT"
    volume = one_volume(paths, allow={"GANTRY_TILT"})
    assert (volume.defects, volume.resampled) == (["GANTRY_TILT"], "")


@pytest.mark.parametrize("sign", [1, -1])
def test_tilt_as_dcm2niix_corrects_it(tmp_path, sign):
    """It moves slices by a part of a row less or more; ours are nearer to the phantom."""
    program = Path(sys.executable).with_name("dcm2niix")
    if not program.exists():
        pytest.skip("dcm2niix is not installed beside Python")
    tilt = f"{np.degrees(np.arctan(0.3)):.4f}"
    paths = write(tmp_path / "in", slices(HEIGHTS, (0.0, 0.3 * sign), GantryDetectorTilt=tilt))
    volume = one_volume(paths)
    ours = volume.decode()
    (tmp_path / "out").mkdir()
    command = [program, "-z", "n", "-b", "n", "-o", tmp_path / "out", tmp_path / "in"]
    subprocess.run(command, check=True, capture_output=True)
    (file,) = (tmp_path / "out").glob("*Tilt*.nii")
    image = nib.load(file)
    theirs = image.get_fdata()
    assert theirs.shape == ours.shape[1:]
    assert off(ours[0], volume.affine) < off(theirs, image.affine)
    grid = OriginalGrid(tuple(image.affine.ravel()), theirs.shape)
    same = to_original(ours.astype(np.float32), volume.affine, grid, order=1, outside=-1000)[0]
    assert dice(same > -400, theirs > -400) > 0.95


def off(array, affine):
    """Mean difference from the phantom."""
    return np.abs(array - truth_at(affine, array.shape, phantom)).mean()


def test_a_missing_slice_stays_one_when_uneven_spacing_is_allowed(tmp_path):
    heights = [h for h in HEIGHTS if h != 2.0]
    paths = write(tmp_path, slices(heights, (0.0, 0.3)))
    _, (rejection,) = find_volumes(paths, allow={"SPACING_UNEVEN", "GANTRY_TILT"})
    assert rejection.code == "SLICE_MISSING"
