"""SEG files that highdicom wrote, onto the volumes they were drawn on."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import RLELossless, generate_uid

from medssl.errors import MedsslError
from medssl.ingest.dicom import find_volumes
from medssl.ingest.dicom_seg import SegReader, seg_object
from medssl.ingest.label_maps import draw_labels
from medssl.ingest.structures import NameRules
from medssl.predict.dicom_seg import Origin, write_seg

sys.path.insert(0, str(Path(__file__).parent))
from label_files import SAGITTAL, oblique, save, segmentation, some_masks, write_series

VALUES = {"aorta": 1, "lesion 2": 2, "liver": 3}
PLANES = [
    {},
    {"orientation": SAGITTAL},
    {"orientation": oblique(25, -14, 40), "spacing": (0.7, 1.9, 3.1)},
    {"orientation": oblique(-88, 3, 91)},
]


def volume_of(series):
    (volume,), rejections = find_volumes(series.folder.iterdir(), single_slices=True)
    assert not rejections
    return volume


def expected(masks):
    return sum(mask.astype(np.uint16) * VALUES[name] for name, mask in masks.items())


def drawn(path, series, **options):
    data = pydicom.dcmread(path, stop_before_pixels=True)
    return draw_labels([seg_object(path, data)], volume_of(series), VALUES, **options)


def fails(path, series):
    """The code and text of the one object that could not be drawn."""
    result = drawn(path, series)
    assert result.label is None
    return result.fates[str(path)]


@pytest.fixture
def series(tmp_path):
    return write_series(tmp_path / "in")


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
@pytest.mark.parametrize("plane", PLANES)
def test_voxels_come_back_exactly(tmp_path, plane, kind):
    series = write_series(tmp_path / "in", **plane)
    masks = some_masks(series.shape)
    path = save(segmentation(series, masks, kind), tmp_path / "seg")
    result = drawn(path, series)
    np.testing.assert_array_equal(result.label[0], expected(masks))
    assert result.label.dtype == np.uint16
    assert result.structures == VALUES
    assert result.fates[str(path)][0] == ""
    assert ("one half" in result.fates[str(path)][1]) == (kind == "FRACTIONAL")


@pytest.mark.parametrize("shape", [(13, 11, 5), (7, 5, 3)])
def test_frames_that_do_not_start_at_a_byte(tmp_path, shape):
    series = write_series(tmp_path / "in", shape)
    noise = np.random.default_rng(1).random(shape)
    masks = {"liver": noise < 0.3, "aorta": noise > 0.6}
    path = save(segmentation(series, masks, omit_empty_frames=False), tmp_path / "seg")
    assert pydicom.dcmread(path).BitsAllocated == 1
    np.testing.assert_array_equal(drawn(path, series).label[0], expected(masks))


@pytest.mark.parametrize(
    ("kind", "syntax"), [("FRACTIONAL", RLELossless), ("LABELMAP", RLELossless)]
)
def test_compressed_frames(series, tmp_path, kind, syntax):
    masks = some_masks(series.shape)
    made = segmentation(series, masks, kind, transfer_syntax_uid=syntax)
    path = save(made, tmp_path / "seg")
    np.testing.assert_array_equal(drawn(path, series).label[0], expected(masks))


def test_what_medssl_predict_writes_comes_back(series, tmp_path):
    masks = some_masks(series.shape)
    labels = expected(masks).astype(np.uint8)
    volume = volume_of(series)
    names = {value: name for name, value in VALUES.items()}
    path = tmp_path / "seg"
    write_seg(path, volume.files, labels, volume.affine, names, Origin("ab" * 32, "test"))
    np.testing.assert_array_equal(drawn(path, series).label[0], labels)


def test_a_slice_alone(tmp_path):
    series = write_series(tmp_path / "in", (14, 11, 1), orientation=oblique(10, 20, 30))
    mask = np.random.default_rng(0).random(series.shape) < 0.4
    path = save(segmentation(series, {"liver": mask}), tmp_path / "seg")
    result = drawn(path, series)
    assert result.label.shape == (1, 11, 14)
    np.testing.assert_array_equal(result.label[0], 3 * mask[..., 0].T)


def test_the_order_of_frames_says_nothing(series, tmp_path):
    masks = some_masks(series.shape)
    made = segmentation(series, masks)
    frames = np.asarray(made.pixel_array)
    order = np.random.default_rng(0).permutation(len(frames))
    groups = list(made.PerFrameFunctionalGroupsSequence)
    made.PerFrameFunctionalGroupsSequence = [groups[i] for i in order]
    made.PixelData = np.packbits(frames[order].ravel(), bitorder="little").tobytes()
    made.PixelData += b"\0" * (len(made.PixelData) % 2)
    path = save(made, tmp_path / "seg")
    np.testing.assert_array_equal(drawn(path, series).label[0], expected(masks))


def test_frames_counted_from_the_other_end_are_the_same_voxels(series, tmp_path):
    """The same planes with columns from right to left."""
    masks = some_masks(series.shape)
    made = segmentation(series, masks)
    frames = np.asarray(made.pixel_array)[:, :, ::-1]
    made.PixelData = np.packbits(frames.ravel(), bitorder="little").tobytes()
    made.PixelData += b"\0" * (len(made.PixelData) % 2)
    (shared,) = made.SharedFunctionalGroupsSequence
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = [-1, 0, 0, 0, 1, 0]
    shift(0, 0.9 * 13)(made)
    path = save(made, tmp_path / "seg")
    np.testing.assert_array_equal(drawn(path, series).label[0], expected(masks))


def test_half_of_the_largest_fraction_counts(series, tmp_path):
    parts = np.zeros(series.shape)
    parts[1:5, 2, 3] = [0.25, 0.49, 0.5, 0.75]
    made = segmentation(series, {"liver": parts}, "FRACTIONAL", max_fractional_value=100)
    path = save(made, tmp_path / "seg")
    assert np.argwhere(drawn(path, series).label[0]).tolist() == [[3, 2, 3], [4, 2, 3]]


def test_a_segment_without_pixels_is_annotated_and_absent(series, tmp_path):
    masks = some_masks(series.shape) | {"lesion 2": np.zeros(series.shape, dtype=bool)}
    path = save(segmentation(series, masks), tmp_path / "seg")
    result = drawn(path, series)
    assert set(np.unique(result.label)) == {0, 1, 3}
    assert result.structures == VALUES


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_segments_of_one_name_are_one_structure(series, tmp_path, kind):
    masks = some_masks(series.shape)
    made = segmentation(series, masks, kind)
    made.SegmentSequence[-1].SegmentLabel = "liver"
    path = save(made, tmp_path / "seg")
    want = 3 * (masks["liver"] | masks["lesion 2"]) + masks["aorta"]
    np.testing.assert_array_equal(drawn(path, series).label[0], want)


@pytest.mark.parametrize("same_name", [False, True])
def test_overlapping_segments_are_refused_unless_allowed(series, tmp_path, same_name):
    masks = some_masks(series.shape)
    masks["aorta"] = masks["liver"].copy()
    made = segmentation(series, masks)
    if same_name:
        made.SegmentSequence[1].SegmentLabel = "liver"
    path = save(made, tmp_path / "seg")
    assert fails(path, series)[0] == "LABEL_OVERLAP"
    result = drawn(path, series, allow={"LABEL_OVERLAP"})
    want = 3 * masks["liver"] + 2 * masks["lesion 2"]  # liver comes after aorta
    np.testing.assert_array_equal(result.label[0], want)
    assert result.defects == ["LABEL_OVERLAP"]
    kept = drawn(save(segmentation(series, some_masks(series.shape)), tmp_path / "s"), series)
    assert kept.defects == []


def shift(axis, by):
    def change(made):
        for frame in made.PerFrameFunctionalGroupsSequence:
            (plane,) = frame.PlanePositionSequence = copy.deepcopy(frame.PlanePositionSequence)
            plane.ImagePositionPatient[axis] += by

    return change


def set_shared(sequence, name, value):
    def change(made):
        (shared,) = made.SharedFunctionalGroupsSequence
        setattr(shared[sequence][0], name, value)

    return change


def cut_pixels(made):
    made.PixelData = made.PixelData[:-20]


def unknown_segment(made):
    frame = made.PerFrameFunctionalGroupsSequence[0]
    frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber = 9


def plane_twice(made):
    first, second = made.PerFrameFunctionalGroupsSequence[:2]
    second.PlanePositionSequence = copy.deepcopy(first.PlanePositionSequence)
    second.SegmentIdentificationSequence = copy.deepcopy(first.SegmentIdentificationSequence)


def drop_frame(made):
    del made.PerFrameFunctionalGroupsSequence[-1]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (shift(0, 0.45), "LABEL_GRID_MISMATCH"),
        (shift(0, 0.9), "LABEL_GRID_MISMATCH"),  # a whole pixel: it ends beyond the picture
        (shift(2, 1.25), "LABEL_GRID_MISMATCH"),
        (shift(2, 2.5 * 8), "LABEL_GRID_MISMATCH"),
        (set_shared("PixelMeasuresSequence", "PixelSpacing", [1.3, 0.91]), "LABEL_GRID_MISMATCH"),
        (
            set_shared("PlaneOrientationSequence", "ImageOrientationPatient", [*oblique(0, 0, 2)]),
            "LABEL_GRID_MISMATCH",
        ),
        (cut_pixels, "FILE_TRUNCATED"),
        (unknown_segment, "LABEL_INVALID"),
        (plane_twice, "LABEL_INVALID"),
        (drop_frame, "LABEL_INVALID"),
    ],
)
def test_what_is_not_certain_is_refused(series, tmp_path, change, code):
    made = segmentation(series, some_masks(series.shape))
    path = save(made, tmp_path / "seg")
    found = seg_object(path, pydicom.dcmread(path))
    change(made)
    save(made, path)
    result = draw_labels([found], volume_of(series), VALUES)
    assert result.label is None
    assert result.fates[str(path)][0] == code


def test_a_whole_slice_further_is_another_place_and_not_refused_for_it(series, tmp_path):
    """So that the shifts above are refused for what they are."""
    masks = some_masks(series.shape)
    masks = {name: np.roll(mask, 1, 2) for name, mask in masks.items()}
    masks["aorta"][..., :2] = False
    made = segmentation(series, masks)
    shift(2, -2.5)(made)
    path = save(made, tmp_path / "seg")
    want = np.roll(expected(masks), -1, 2)
    np.testing.assert_array_equal(drawn(path, series).label[0], want)


def test_a_grid_of_another_resolution_is_refused(series, tmp_path):
    finer = write_series(tmp_path / "fine", (28, 22, 8), spacing=(0.45, 0.65, 2.5))
    path = save(segmentation(finer, some_masks(finer.shape)), tmp_path / "seg")
    assert fails(path, series)[0] == "LABEL_GRID_MISMATCH"


def test_a_pixel_of_no_segment_is_refused(series, tmp_path):
    made = segmentation(series, some_masks(series.shape), "LABELMAP")
    pixels = np.frombuffer(made.PixelData, np.uint8).copy()
    pixels[5] = 77
    made.PixelData = pixels.tobytes()
    path = save(made, tmp_path / "seg")
    assert fails(path, series)[0] == "LABEL_INVALID"


@pytest.mark.parametrize("name", ["", "x" * 65, "a^b", "scan 2020-01-31", "Jane's lesion"])
def test_names_that_may_not_enter_the_store(series, tmp_path, name):
    made = segmentation(series, some_masks(series.shape))
    made.SegmentSequence[0].SegmentLabel = name
    with pytest.raises(MedsslError, match="LABEL_INVALID") as caught:
        seg_object(tmp_path / "seg", made)
    assert not name or name not in str(caught.value)
    if name:
        assert name in seg_object(tmp_path / "seg", made, NameRules.of([name])).structures


def test_what_a_header_says(series, tmp_path):
    found = seg_object(tmp_path / "seg", segmentation(series, some_masks(series.shape)))
    assert found.structures == ("aorta", "lesion 2", "liver")
    assert found.series == (series.slices[0].SeriesInstanceUID,)
    assert found.frame_uids == (series.slices[0].FrameOfReferenceUID,)
    # Only of frames that are there: the three structures have pixels on all slices.
    assert {uid for uid, _ in found.images} == {data.SOPInstanceUID for data in series.slices}
    assert {frame for _, frame in found.images} == {-1}


def test_images_of_the_series_stand_in_where_frames_name_none(series, tmp_path):
    made = segmentation(series, some_masks(series.shape))
    for frame in made.PerFrameFunctionalGroupsSequence:
        del frame.DerivationImageSequence
    found = seg_object(tmp_path / "seg", made)
    assert len(found.images) == len(series.slices)


def test_frame_numbers_are_counted_from_nought(series, tmp_path):
    made = segmentation(series, some_masks(series.shape))
    for number, frame in enumerate(made.PerFrameFunctionalGroupsSequence, start=1):
        (derived,) = frame.DerivationImageSequence = copy.deepcopy(frame.DerivationImageSequence)
        derived.SourceImageSequence[0].ReferencedFrameNumber = number
    found = seg_object(tmp_path / "seg", made)
    assert sorted(frame for _, frame in found.images) == list(range(8 + 1))


@pytest.mark.parametrize("tag", ["SegmentationType", "SegmentSequence", "NumberOfFrames"])
def test_a_header_without_what_it_needs_is_refused(series, tmp_path, tag):
    made = segmentation(series, some_masks(series.shape))
    delattr(made, tag)
    with pytest.raises(MedsslError, match="LABEL_INVALID|DICOM_TAG_MISSING"):
        seg_object(tmp_path / "seg", made)


def test_another_uid_changes_nothing_of_the_voxels(series, tmp_path):
    made = segmentation(series, some_masks(series.shape))
    made.SOPInstanceUID = generate_uid()
    path = save(made, tmp_path / "seg")
    reader = SegReader(path, volume_of(series))
    assert sum(int(layer.mask.sum()) for layer in reader.layers("liver")) == 24
    assert list(reader.layers("nothing of this name")) == []
