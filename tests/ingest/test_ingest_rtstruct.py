"""Structure sets onto the volumes they were drawn on."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from matplotlib.path import Path as PolygonPath
from pydicom.uid import ImplicitVRLittleEndian

from medssl.errors import MedsslError
from medssl.ingest.dicom import find_volumes
from medssl.ingest.label_maps import draw_labels
from medssl.ingest.rtstruct import rtstruct_object

sys.path.insert(0, str(Path(__file__).parent))
from label_files import SAGITTAL, oblique, save, structure_set, write_series

PLANES = [
    {},
    {"orientation": SAGITTAL},
    {"orientation": oblique(25, -14, 40), "spacing": (0.7, 1.9, 3.1)},
    {"orientation": oblique(-88, 3, 91)},
]


def ring(radius, centre=(6.3, 5.2), count=60):
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([centre[0] + radius * np.cos(angle), centre[1] + radius * np.sin(angle)], 1)


def filled(points, shape):
    """(column, row) by matplotlib."""
    centres = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(-1, 2)
    return PolygonPath(points).contains_points(centres).reshape(shape)


def drawn(data, series, **options):
    path = save(data, series.folder.parent / "structures")
    found = rtstruct_object(path, pydicom.dcmread(path))
    (volume,), _ = find_volumes(series.folder.iterdir(), single_slices=True)
    values = {name: i for i, name in enumerate(found.structures, start=1)}
    return draw_labels([found], volume, values, **options)


def fate(result):
    (only,) = result.fates.values()
    return only


@pytest.fixture
def series(tmp_path):
    return write_series(tmp_path / "in")


@pytest.mark.parametrize("images", [True, False])
@pytest.mark.parametrize("plane", PLANES)
def test_contours_fill_the_slices_they_lie_in(tmp_path, plane, images):
    series = write_series(tmp_path / "in", **plane)
    triangle = np.array([[9.2, 1.1], [12.7, 1.3], [11.4, 3.8]])
    regions = {
        "liver": [(k, ring(2.2 + 0.2 * k)) for k in (2, 3, 4)],
        "aorta": [(0, triangle), (1, triangle)],
    }
    result = drawn(structure_set(series, regions, images=images), series)
    want = np.zeros(series.shape, dtype=int)
    for value, name in enumerate(sorted(regions), start=1):
        for k, points in regions[name]:
            want[..., k] += value * filled(points, series.shape[:2])
    np.testing.assert_array_equal(result.label[0], want)
    assert result.structures == {"aorta": 1, "liver": 2}
    assert fate(result) == ("", "")


def test_a_sphere_has_its_voxels_and_its_volume(tmp_path):
    series = write_series(tmp_path / "in", (61, 61, 61), spacing=(1.0, 1.0, 1.0))
    radius = 24.3
    contours = [
        (k, ring(np.sqrt(radius**2 - (k - 30) ** 2), (30, 30), 5000))
        for k in range(61)
        if abs(k - 30) < radius
    ]
    result = drawn(structure_set(series, {"ball": contours}), series)
    x, y, z = np.ogrid[-30:31, -30:31, -30:31]
    np.testing.assert_array_equal(result.label[0], x**2 + y**2 + z**2 < radius**2)
    assert int(result.label.sum()) == pytest.approx(4 / 3 * np.pi * radius**3, rel=3e-3)


def test_holes(series):
    regions = {"wall": [(3, ring(4.6)), (3, ring(2.1)[::-1])]}
    result = drawn(structure_set(series, regions), series)
    want = filled(ring(4.6), series.shape[:2]) & ~filled(ring(2.1), series.shape[:2])
    np.testing.assert_array_equal(result.label[0, ..., 3], want)


def test_exclusive_or_where_the_file_asks_for_it(series):
    xor = {"ContourGeometricType": "CLOSEDPLANAR_XOR"}
    regions = {"two": [(3, ring(2.6), xor), (3, ring(2.6, (8.1, 5.2)), xor)]}
    result = drawn(structure_set(series, regions), series)
    want = filled(ring(2.6), series.shape[:2]) ^ filled(ring(2.6, (8.1, 5.2)), series.shape[:2])
    np.testing.assert_array_equal(result.label[0, ..., 3], want)


def test_nothing_is_made_up_between_slices(series):
    result = drawn(structure_set(series, {"liver": [(k, ring(3)) for k in (1, 3, 5)]}), series)
    assert np.flatnonzero(result.label[0].any(axis=(0, 1))).tolist() == [1, 3, 5]
    assert fate(result) == ("", "structures that skip slices, nothing interpolated: 1")


def test_points_are_left_out_and_an_empty_region_is_not_annotated(series):
    point = {"ContourGeometricType": "POINT"}
    regions = {
        "liver": [(2, ring(3)), (2, [(1, 1)], point), (4, [(7, 7)])],
        "isocentre": [(2, [(5, 5)], point)],
        "template^1": [],
    }
    result = drawn(structure_set(series, regions), series)
    assert result.structures == {"liver": 1}
    assert fate(result) == ("", "points left out: 3")


def test_a_million_numbers_in_one_element(tmp_path):
    """Longer than 64 kB, which explicit value representations of this kind cannot state."""
    series = write_series(tmp_path / "in")
    data = structure_set(series, {"liver": [(2, ring(3.3, count=4000))]})
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    result = drawn(data, series)
    np.testing.assert_array_equal(result.label[0, ..., 2], filled(ring(3.3), series.shape[:2]))


@pytest.mark.parametrize(
    ("contour", "code"),
    [
        ((2.4, ring(3)), "LABEL_GRID_MISMATCH"),
        ((8, ring(3)), "LABEL_GRID_MISMATCH"),
        ((-1, ring(3)), "LABEL_GRID_MISMATCH"),
        ((2, ring(3, (40, 5))), "LABEL_GRID_MISMATCH"),
        ((2, ring(3), {"ContourImageSequence": [5]}), "LABEL_GRID_MISMATCH"),
        ((2, ring(3), {"ContourOffsetVector": [0, 0, 1]}), "LABEL_INVALID"),
        ((2, ring(3), {"NumberOfContourPoints": 59}), "LABEL_INVALID"),
        ((2, ring(3), {"ContourData": None}), "LABEL_INVALID"),
        ((2, ring(3)[:2]), "LABEL_INVALID"),
        ((2, [(1, 1), (np.nan, 2), (3, 3)]), "LABEL_INVALID"),
    ],
)
def test_a_contour_that_is_not_certain_is_refused(series, contour, code):
    regions = {"liver": [(2, ring(2.0)), contour]}
    if len(contour) > 2 and "ContourImageSequence" in contour[2]:
        made = structure_set(series, {"liver": [(5, ring(3))]})
        (other,) = made.ROIContourSequence[0].ContourSequence
        contour[2]["ContourImageSequence"] = other.ContourImageSequence
    result = drawn(structure_set(series, regions), series)
    assert result.label is None
    assert fate(result)[0] == code


def test_a_tilted_contour_is_refused(series):
    data = structure_set(series, {"liver": [(2, ring(3))]})
    (contour,) = data.ROIContourSequence[0].ContourSequence
    points = np.array(contour.ContourData, dtype=float).reshape(-1, 3)
    points[:, 2] += 0.1 * points[:, 0]
    contour.ContourData = [f"{v:.6f}" for v in points.ravel()]
    assert fate(drawn(data, series))[0] == "LABEL_GRID_MISMATCH"


def test_a_little_rounding_is_borne(series):
    data = structure_set(series, {"liver": [(2, ring(3))]})
    (contour,) = data.ROIContourSequence[0].ContourSequence
    contour.ContourData = [f"{float(v):.1f}" for v in contour.ContourData]
    assert fate(drawn(data, series)) == ("", "")


@pytest.mark.parametrize("other", [ring(3), ring(3, (8.0, 5.2))])
def test_contours_of_one_region_that_repeat_or_cross_are_refused(series, other):
    result = drawn(structure_set(series, {"liver": [(2, ring(3)), (2, other)]}), series)
    assert fate(result)[0] == "LABEL_INVALID"


def test_regions_that_overlap_are_refused_unless_allowed(series):
    data = structure_set(series, {"body": [(2, ring(4.9))], "liver": [(2, ring(2.2))]})
    assert fate(drawn(data, series))[0] == "LABEL_OVERLAP"
    result = drawn(data, series, allow={"LABEL_OVERLAP"})
    want = filled(ring(4.9), series.shape[:2]).astype(int) + filled(ring(2.2), series.shape[:2])
    np.testing.assert_array_equal(result.label[0, ..., 2], want)
    assert result.defects == ["LABEL_OVERLAP"]


def no_contours(data):
    for region in data.ROIContourSequence:
        region.ContourSequence = []


def open_contour(data):
    data.ROIContourSequence[0].ContourSequence[0].ContourGeometricType = "OPEN_PLANAR"


def mixed_kinds(data):
    data.ROIContourSequence[0].ContourSequence[0].ContourGeometricType = "CLOSEDPLANAR_XOR"


def stray_contours(data):
    data.ROIContourSequence[0].ReferencedROINumber = 7


def number_twice(data):
    data.StructureSetROISequence[1].ROINumber = 1


def bad_name(data):
    data.StructureSetROISequence[0].ROIName = "DOE liver"


@pytest.mark.parametrize(
    "change", [no_contours, open_contour, mixed_kinds, stray_contours, number_twice, bad_name]
)
def test_what_is_refused_from_the_header(series, change):
    regions = {"liver": [(2, ring(3)), (3, ring(3))], "aorta": [(5, ring(3))]}
    data = structure_set(series, regions)
    rtstruct_object(series.folder, data)
    change(data)
    with pytest.raises(MedsslError, match="LABEL_INVALID") as caught:
        rtstruct_object(series.folder, data)
    assert "DOE" not in str(caught.value)


def test_the_images_are_those_of_the_contours_or_else_all_that_are_listed(series):
    data = structure_set(series, {"liver": [(2, ring(3)), (3, ring(3))]})
    found = rtstruct_object(series.folder, data)
    uids = [image.SOPInstanceUID for image in series.slices]
    assert found.images == ((uids[2], -1), (uids[3], -1))
    assert found.series == (series.slices[0].SeriesInstanceUID,)
    assert found.frame_uids == (series.slices[0].FrameOfReferenceUID,)
    without = structure_set(series, {"liver": [(2, ring(3))]}, images=False)
    assert rtstruct_object(series.folder, without).images == tuple((uid, -1) for uid in uids)
