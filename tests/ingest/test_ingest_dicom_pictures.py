"""Pictures: ultrasound, photographs, captures; grey or in colour, one 2D image for each frame."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit, RLELossless
from pydicom.uid import generate_uid as new_uid

from medssl.errors import MedsslError
from medssl.ingest.colour import FrameReader
from medssl.ingest.dicom import find_volumes
from medssl.ingest.run import ingest
from medssl.store import Store
from medssl.store.export import export

US, US_CLIP, PHOTO, CAPTURE = (
    f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("6.1", "3.1", "77.1.4", "7")
)
ROWS, COLUMNS = 6, 8
COLOURS = np.random.default_rng(5).integers(0, 256, (ROWS, COLUMNS, 3), dtype=np.uint8)
GREY = COLOURS[..., 0]


def picture(pixels: np.ndarray, sop_class: str = PHOTO, **tags: object) -> Dataset:
    """(row, column), (row, column, 3) or (frame, row, column[, 3]) uint8."""
    colour = pixels.shape[-1] == 3
    frames = pixels.shape[0] if pixels.ndim == (4 if colour else 3) else 0
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = sop_class, new_uid()
    data.StudyInstanceUID, data.SeriesInstanceUID, data.PatientID = "1.2.1", "1.2.3", "P1"
    data.Modality, data.InstanceNumber = "OT", 1
    data.Rows, data.Columns = pixels.shape[1:3] if frames else pixels.shape[:2]
    if frames:
        data.NumberOfFrames = frames
    data.SamplesPerPixel = 3 if colour else 1
    data.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        data.PlanarConfiguration = 0
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
    data.PixelData = pixels.tobytes() + b"\0" * (pixels.size % 2)
    for name, value in tags.items():
        setattr(data, name, value)
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return data


def write(folder: Path, *made: Dataset) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"f{9 - i}" for i in range(len(made))]
    for path, data in zip(paths, made, strict=True):
        data.save_as(path, enforce_file_format=True)
    return paths


def read(tmp_path: Path, data: Dataset, **named: object) -> np.ndarray:
    (volume,), rejections = find_volumes(write(tmp_path, data), single_slices=True, **named)
    assert (rejections, volume.dims, volume.kind) == ([], 2, "picture")
    return volume.decode()


def code(tmp_path: Path, data: Dataset) -> str:
    """Of the header, else of the pixels."""
    volumes, rejections = find_volumes(write(tmp_path, data), single_slices=True)
    if rejections:
        return rejections[0].code
    with pytest.raises(MedsslError) as caught:
        volumes[0].decode()
    return caught.value.code


def to_ybr(rgb: np.ndarray) -> np.ndarray:
    """PS3.3 C.7.6.3.1.2, float64."""
    matrix = np.array([[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]])
    return np.clip(np.rint(rgb @ matrix.T + [0, 128, 128]), 0, 255).astype(np.uint8)


def test_rgb_is_three_channels(tmp_path):
    found = read(tmp_path, picture(COLOURS))
    assert (found.shape, found.dtype) == ((3, ROWS, COLUMNS), np.uint8)
    np.testing.assert_array_equal(found, np.moveaxis(COLOURS, -1, 0))


def test_colour_by_plane(tmp_path):
    data = picture(COLOURS, PlanarConfiguration=1)
    data.PixelData = np.moveaxis(COLOURS, -1, 0).tobytes()
    np.testing.assert_array_equal(read(tmp_path, data), np.moveaxis(COLOURS, -1, 0))


def test_ybr_full_becomes_rgb(tmp_path):
    data = picture(to_ybr(COLOURS), PhotometricInterpretation="YBR_FULL")
    found = read(tmp_path, data)
    assert np.abs(found.astype(int) - np.moveaxis(COLOURS, -1, 0)).max() <= 2


def test_ybr_full_422_becomes_rgb(tmp_path):
    pairs = np.repeat(COLOURS[:, ::2], 2, axis=1)  # pairs of pixels share their colour
    ybr = to_ybr(pairs)
    data = picture(COLOURS, PhotometricInterpretation="YBR_FULL_422")
    packed = np.stack([ybr[:, ::2, 0], ybr[:, 1::2, 0], ybr[:, ::2, 1], ybr[:, ::2, 2]], -1)
    data.PixelData = packed.tobytes()
    found = read(tmp_path, data)
    assert np.abs(found.astype(int) - np.moveaxis(pairs, -1, 0)).max() <= 2


def smooth(frame: int = 0) -> np.ndarray:
    """A picture that JPEG changes little."""
    y, x = np.mgrid[0:32, 0:40]
    return np.stack([60 + 3 * x + frame, 60 + 2 * y, 150 - 2 * x + y], -1).astype(np.uint8)


def jpeg(data: Dataset, frames: list[np.ndarray]) -> Dataset:
    streams = []
    for frame in frames:
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, "JPEG", quality=95)
        streams.append(buffer.getvalue())
    data.PixelData = encapsulate(streams)
    data["PixelData"].is_undefined_length = True
    data.PhotometricInterpretation = "YBR_FULL_422"
    data.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    return data


def test_jpeg_frames_are_rgb(tmp_path):
    frames = [smooth(10 * k) for k in range(3)]
    clip = jpeg(picture(np.stack(frames), US_CLIP), frames)
    volumes, _ = find_volumes(write(tmp_path, clip), single_slices=True)
    assert [v.part for v in volumes] == ["frame=1/3", "frame=2/3", "frame=3/3"]
    reader = FrameReader()
    for volume, truth in zip(volumes, frames, strict=True):
        found = volume.decode(reader).astype(int)
        assert np.abs(found - np.moveaxis(truth, -1, 0)).mean() < 2
    # Out of order, with one reader or another, a frame is itself.
    last, first = volumes[2].decode(reader), volumes[0].decode(reader)
    np.testing.assert_array_equal(last, volumes[2].decode())
    assert last[0].mean() - first[0].mean() > 15


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
@pytest.mark.parametrize("pixels", [np.tile(COLOURS, (8, 8, 1)), np.tile(GREY, (8, 8))])
def test_lossless_syntaxes_keep_every_value(tmp_path, syntax, pixels):
    data = picture(pixels)
    data.compress(syntax, generate_instance_uid=False)
    found = read(tmp_path, data)
    truth = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
    np.testing.assert_array_equal(found, truth)


@pytest.mark.parametrize(
    ("spread", "kind"), [(lambda v: v << 8, np.uint8), (lambda v: v * 257, np.uint8),
                         (lambda v: v << 8 | 7, np.uint16)],
)  # fmt: skip
def test_a_palette_gives_the_colours_it_stands_for(tmp_path, spread, kind):
    lut = np.random.default_rng(2).integers(0, 256, (3, 256)).astype(np.uint16)
    data = picture(GREY, PhotometricInterpretation="PALETTE COLOR")
    for colour, entries in zip(("Red", "Green", "Blue"), spread(lut), strict=True):
        setattr(data, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(data, f"{colour}PaletteColorLookupTableData", entries.astype("<u2").tobytes())
    found = read(tmp_path, data)
    assert found.dtype == kind
    np.testing.assert_array_equal(found, (lut if kind == np.uint8 else spread(lut))[:, GREY])


def test_the_frames_of_a_palette_clip_have_one_scale(tmp_path):
    frames = np.stack([np.zeros((ROWS, COLUMNS), np.uint8), GREY])
    clip = picture(frames, US_CLIP, PhotometricInterpretation="PALETTE COLOR")
    entries = np.arange(256, dtype=np.uint16) << 8
    entries[200:] |= 7
    for colour in ("Red", "Green", "Blue"):
        setattr(clip, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(clip, f"{colour}PaletteColorLookupTableData", entries.tobytes())
    volumes, _ = find_volumes(write(tmp_path, clip), single_slices=True)
    assert [volume.decode().dtype for volume in volumes] == [np.uint16] * 2


def test_grey_clips_are_decoded_frame_by_frame_and_monochrome1_is_turned_round(tmp_path):
    frames = np.arange(4 * ROWS * COLUMNS, dtype=np.uint8).reshape(4, ROWS, COLUMNS)
    clip = picture(frames, US_CLIP, PhotometricInterpretation="MONOCHROME1")
    volumes, _ = find_volumes(write(tmp_path, clip), single_slices=True)
    reader = FrameReader()
    found = np.concatenate([volume.decode(reader) for volume in volumes])
    np.testing.assert_array_equal(found, 255 - frames)
    assert {volume.modality for volume in volumes} == {"US"}


def test_pictures_of_twelve_bits(tmp_path):
    wide = (GREY.astype(np.uint16) * 16)[None].repeat(2, axis=0)
    tags = {"BitsAllocated": 16, "BitsStored": 12, "HighBit": 11}
    clip = picture(wide, f"{CAPTURE}.3", PixelData=wide.astype("<u2").tobytes(), **tags)
    volumes, _ = find_volumes(write(tmp_path, clip), single_slices=True, allow={"DERIVED"})
    np.testing.assert_array_equal(volumes[1].decode()[0], wide[1])


def region(delta: tuple[float, float], units: int = 3, form: int = 1) -> Dataset:
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType = form, 1
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = units
    item.PhysicalDeltaX, item.PhysicalDeltaY = delta
    return item


@pytest.mark.parametrize(
    ("regions", "spacing"),
    [
        ([region((0.02, 0.03))], (0.3, 0.2)),
        ([region((0.02, 0.03)), region((0.02, -0.03))], (0.3, 0.2)),  # tissue, and flow over it
        ([region((0.02, 0.03)), region((0.04, 0.03))], None),
        ([region((0.02, 0.03)), region((0.02, 0.03), form=3)], None),  # a Doppler trace beside it
        ([region((0.02, 0.03), units=4)], None),
        ([region((0.0, 0.03))], None),
        ([], None),
    ],
)
def test_ultrasound_takes_its_spacing_from_regions_that_agree(tmp_path, regions, spacing):
    data = picture(GREY, US, SequenceOfUltrasoundRegions=regions)
    (volume,), _ = find_volumes(write(tmp_path, data), single_slices=True)
    assert volume.pixel_spacing == pytest.approx(spacing or (1.0, 1.0))
    assert volume.defects == ([] if spacing else ["SPACING_UNKNOWN"])


def test_a_photograph_with_a_stated_spacing_has_it(tmp_path):
    data = picture(COLOURS, PixelSpacing=[0.5, 0.25])
    (volume,), _ = find_volumes(write(tmp_path, data), single_slices=True)
    assert (volume.pixel_spacing, volume.defects) == ((0.5, 0.25), [])


def test_secondary_captures_are_kept_out_unless_allowed_and_are_no_ct(tmp_path):
    data = picture(COLOURS, CAPTURE, Modality="CT")
    assert code(tmp_path, data) == "DERIVED"
    (volume,), _ = find_volumes(write(tmp_path, data), single_slices=True, allow={"DERIVED"})
    assert (volume.modality, volume.defects) == ("OT", ["DERIVED", "SPACING_UNKNOWN"])


def short(data):
    data.PixelData = data.PixelData[:-2]


def bomb(data):
    data.compress(RLELossless, generate_instance_uid=False)
    data.Rows = data.Columns = 60_000


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (short, "FILE_TRUNCATED"),
        (lambda d: setattr(d, "PixelData", d.PixelData * 2), "DECODE_FAILED"),
        (bomb, "PIXELS_TOO_LARGE"),
        (lambda d: setattr(d, "NumberOfFrames", 2), "FILE_TRUNCATED"),
        (lambda d: setattr(d, "NumberOfFrames", 0), "DICOM_TAG_INVALID"),
        (lambda d: setattr(d, "NumberOfFrames", 10**9), "DICOM_TAG_INVALID"),
        (lambda d: setattr(d, "PhotometricInterpretation", "CMYK"), "COLOUR_UNSUPPORTED"),
        (lambda d: setattr(d, "PhotometricInterpretation", "PALETTE COLOR"), "COLOUR_UNSUPPORTED"),
        (lambda d: setattr(d, "BitsStored", 7) or setattr(d, "HighBit", 6),
         "PIXEL_FORMAT_UNSUPPORTED"),
        (lambda d: setattr(d, "RescaleSlope", 2), "PIXEL_FORMAT_UNSUPPORTED"),
        (lambda d: setattr(d, "PixelSpacing", [0, 1]), "SPACING_INVALID"),
    ],
)  # fmt: skip
def test_what_is_not_certain_is_refused(tmp_path, change, expected):
    data = picture(COLOURS)
    change(data)
    assert code(tmp_path, data) == expected


def test_a_value_above_the_stored_bits_is_refused(tmp_path):
    data = picture(GREY | 0x80, US, BitsStored=7, HighBit=6)
    assert code(tmp_path, data) == "PIXEL_FORMAT_UNSUPPORTED"


def test_a_clip_that_is_there_twice_counts_once(tmp_path):
    clip = picture(np.stack([COLOURS, 255 - COLOURS]), US_CLIP)
    write(tmp_path / "in", clip, clip)
    summary = ingest(tmp_path / "in", tmp_path / "store")
    assert summary.counts == {("used", ""): 1, ("duplicate", "DUPLICATE"): 1}
    assert summary.volumes == 2


def test_a_palette_of_any_size_is_not_made_room_for(tmp_path):
    tags = {"BitsAllocated": 32, "BitsStored": 32, "HighBit": 31}
    data = picture(GREY, PhotometricInterpretation="PALETTE COLOR", **tags)
    assert code(tmp_path, data) == "PIXEL_FORMAT_UNSUPPORTED"


def test_a_palette_without_its_tables_is_refused(tmp_path):
    data = picture(GREY, PhotometricInterpretation="PALETTE COLOR")
    assert code(tmp_path, data) == "DECODE_FAILED"


def test_a_cut_clip_gives_the_frames_it_has_and_says_so(tmp_path):
    frames = [smooth(k) for k in range(3)]
    clip = jpeg(picture(np.stack(frames), US_CLIP), frames[:2])
    write(tmp_path / "in", clip)
    summary = ingest(tmp_path / "in", tmp_path / "store")
    assert summary.counts == {("used", "DECODE_FAILED"): 1}
    assert (summary.volumes, int(summary.exit_code)) == (2, 3)


def test_a_series_of_pictures_and_clips_in_the_store(tmp_path):
    clip = picture(np.stack([COLOURS, 255 - COLOURS]), US_CLIP, InstanceNumber=2)
    still = picture(255 - GREY, US, InstanceNumber=1)
    write(tmp_path / "in", clip, still)
    ingest(tmp_path / "in", tmp_path / "store")
    rows = Store.open(tmp_path / "store").manifest.sort_values("part")
    assert rows["part"].tolist() == ["image=1/2", "image=2/2, frame=1/2", "image=2/2, frame=2/2"]
    assert rows["channels"].tolist() == [1, 3, 3]
    assert rows["series_id"].nunique() == 1
    assert [list(d) for d in rows["defects"]] == [["SPACING_UNKNOWN"]] * 3
    export(tmp_path / "store", tmp_path / "out")
    assert len(list((tmp_path / "out" / "images").glob("*.png"))) == 2


@pytest.mark.data
def test_real_colour_captures_are_the_pictures_pydicom_shows(data_root):
    files = sorted((data_root / "dicom/vendors/generic/rgb").rglob("*.dcm"))
    volumes, rejections = find_volumes(files, single_slices=True, allow={"DERIVED"})
    assert (len(volumes), rejections) == (len(files), [])
    for volume in volumes:
        truth = pydicom.dcmread(volume.files[0]).pixel_array
        np.testing.assert_array_equal(volume.decode(), np.moveaxis(truth, -1, 0))
        assert volume.pixel_spacing == (3.0, 3.0)
