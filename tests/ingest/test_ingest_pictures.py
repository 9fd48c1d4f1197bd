from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from medssl.errors import MedsslError
from medssl.ingest.pictures import read_picture, read_png

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4)
# What each EXIF orientation does to the stored rows and columns (Exif 2.3, tag 274).
TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: a[::-1].T,
    7: lambda a: a[::-1, ::-1].T,
    8: lambda a: a[:, ::-1].T,
}


def save(path, array, kind="png", mode=None, **options):
    Image.fromarray(array, mode).save(path, format=kind.upper(), **options)
    return path


def code_of(path, kind="png", label=False):
    with pytest.raises(MedsslError) as caught:
        read_picture(path, kind, label)
    return caught.value.code


def exif(orientation):
    data = Image.Exif()
    data[274] = orientation
    return data


def make_png(path, depth, colour, rows, interlace=0, before=b""):
    """A PNG by hand, one row of packed bytes after the other."""

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    width = len(rows[0]) * 8 // (depth * {0: 1, 2: 3, 3: 1}[colour])
    head = struct.pack(">IIBBBBB", width, len(rows), depth, colour, 0, 0, interlace)
    body = zlib.compress(b"".join(b"\0" + bytes(row) for row in rows))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + before
        + chunk(b"IDAT", body)
        + chunk(b"IEND", b"")
    )
    return path


def make_tiff(path, array, *, photometric=1, sample=1, order="<", extra=()):
    """A TIFF by hand: uncompressed, one strip; ``extra`` are further (tag, value) shorts."""
    array = np.asarray(array)
    channels = array.shape[2] if array.ndim == 3 else 1
    data = array.astype(array.dtype.newbyteorder(order)).tobytes()
    tags = [(256, array.shape[1]), (257, array.shape[0]), (258, array.dtype.itemsize * 8),
            (259, 1), (262, photometric), (273, 8), (277, channels), (278, array.shape[0]),
            (279, len(data)), (339, sample), *extra]  # fmt: skip
    data += b"\0" * (len(data) % 2)
    mark = b"II" if order == "<" else b"MM"
    bits_at = 8 + len(data) + 2 + 12 * len(tags) + 4
    tail = struct.pack(order + "H", array.dtype.itemsize * 8) * channels
    entries = b""
    for tag, value in sorted(tags):
        if tag == 258 and channels > 2:
            entries += struct.pack(order + "HHII", tag, 3, channels, bits_at)
        else:
            entries += struct.pack(order + "HHII", tag, 4, 1, value)
    head = mark + struct.pack(order + "HI", 42, 8 + len(data))
    path.write_bytes(head + data + struct.pack(order + "H", len(tags)) + entries + bytes(4) + tail)
    return path


def test_grey_and_colour_png(tmp_path):
    np.testing.assert_array_equal(read_png(save(tmp_path / "a", GREY)), GREY[None])
    deep = GREY.astype(np.uint16) * 5000
    np.testing.assert_array_equal(read_png(save(tmp_path / "b", deep)), deep[None])
    colour = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    found = read_png(save(tmp_path / "c", colour))
    np.testing.assert_array_equal(found, colour.transpose(2, 0, 1))


def test_palette_is_an_image_only_as_a_label_map(tmp_path):
    indices = np.array([[0, 1], [2, 1]], dtype=np.uint8)
    image = Image.fromarray(indices, "P")
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    for kind in ("png", "tiff"):
        image.save(tmp_path / kind, format=kind.upper())
        assert code_of(tmp_path / kind, kind) == "PIXEL_FORMAT_UNSUPPORTED"
        (found,) = read_picture(tmp_path / kind, kind, label=True)
        np.testing.assert_array_equal(found, indices[None])


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_few_bits_of_grey_are_not_stretched(tmp_path, depth):
    path = make_png(tmp_path / "a", depth, 0, [[0b00011011], [0b11100100]])
    bits = np.unpackbits(np.array([[0b00011011], [0b11100100]], np.uint8), axis=1)
    expected = bits.reshape(2, -1, depth) @ (1 << np.arange(depth)[::-1])
    for label in (False, True):
        np.testing.assert_array_equal(read_png(path, label)[0], expected)


def test_sixteen_bits_of_colour_are_not_narrowed(tmp_path):
    row = struct.pack(">6H", 1, 2, 3, 4, 5, 6)
    assert code_of(make_png(tmp_path / "a", 16, 2, [row])) == "PIXEL_FORMAT_UNSUPPORTED"
    colour = np.arange(12, dtype=np.uint16).reshape(2, 2, 3) * 5000
    path = make_tiff(tmp_path / "b", colour, photometric=2)
    assert code_of(path, "tiff") == "PIXEL_FORMAT_UNSUPPORTED"


def test_gamma_changes_nothing_and_interlacing_is_undone(tmp_path):
    gamma = struct.pack(">I", 4) + b"gAMA" + struct.pack(">I", 22727)
    gamma += struct.pack(">I", zlib.crc32(gamma[4:]))
    path = make_png(tmp_path / "a", 16, 0, [struct.pack(">2H", 300, 60000)], before=gamma)
    np.testing.assert_array_equal(read_png(path), [[[300, 60000]]])
    # A PNG of 2 x 1 in Adam7: the first pass holds column 0, the sixth column 1 (PNG 8.2).
    body = b"\0" + struct.pack(">H", 300) + b"\0" + struct.pack(">H", 60000)
    path = make_png(tmp_path / "b", 16, 0, [struct.pack(">2H", 0, 0)], interlace=1)
    raw = path.read_bytes()
    start, end = raw.index(b"IDAT"), raw.index(b"IEND") - 4
    packed = b"IDAT" + zlib.compress(body)
    chunk = struct.pack(">I", len(packed) - 4) + packed + struct.pack(">I", zlib.crc32(packed))
    path.write_bytes(raw[: start - 4] + chunk + raw[end:])
    np.testing.assert_array_equal(read_png(path), [[[300, 60000]]])


def test_transparent_animated_and_damaged_png(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (40, 40), np.uint8)
    path = save(tmp_path / "a", noise)
    path.write_bytes(path.read_bytes()[:-300])
    assert code_of(path) == "DECODE_FAILED"
    path = save(tmp_path / "b", np.zeros((2, 2, 4), np.uint8))
    assert code_of(path) == "PIXEL_FORMAT_UNSUPPORTED"
    assert code_of(path, label=True) == "LABEL_INVALID"
    path = save(tmp_path / "c", GREY, transparency=3)
    assert code_of(path) == "PIXEL_FORMAT_UNSUPPORTED"
    frames = [Image.fromarray(GREY), Image.fromarray(GREY + 1)]
    frames[0].save(tmp_path / "d", format="PNG", save_all=True, append_images=frames[1:])
    assert code_of(tmp_path / "d") == "TIME_SERIES_UNSUPPORTED"


@pytest.mark.parametrize("orientation", TURNS)
def test_exif_orientation_is_followed_or_refused(tmp_path, orientation):
    turned = TURNS[orientation](GREY)
    path = save(tmp_path / "a", GREY, exif=exif(orientation))
    np.testing.assert_array_equal(read_png(path)[0], turned)
    np.testing.assert_array_equal(read_png(path, label=True)[0], turned)
    coarse = np.kron(GREY * 20, np.ones((8, 8), np.uint8))
    path = save(tmp_path / "b", coarse, "jpeg", exif=exif(orientation), quality=100)
    (found,) = read_picture(path, "jpeg")
    np.testing.assert_allclose(found[0], TURNS[orientation](coarse), atol=2)
    path = save(tmp_path / "c", GREY, "tiff", tiffinfo={274: orientation})
    if orientation == 1:
        np.testing.assert_array_equal(read_picture(path, "tiff")[0][0], GREY)
    else:
        assert code_of(path, "tiff") == "PIXEL_FORMAT_UNSUPPORTED"


@pytest.mark.parametrize("kind", ["png", "jpeg"])
@pytest.mark.parametrize("orientation", [0, 9])
def test_an_orientation_that_is_none_is_refused(tmp_path, kind, orientation):
    path = save(tmp_path / "a", GREY, kind, exif=exif(orientation))
    assert code_of(path, kind) == "PIXEL_FORMAT_UNSUPPORTED"


def test_grey_and_colour_jpeg(tmp_path):
    smooth = np.add.outer(np.arange(32), np.arange(48)).astype(np.uint8)
    path = save(tmp_path / "a", smooth, "jpeg", quality=100)
    (found,) = read_picture(path, "jpeg")
    assert (found.shape, found.dtype) == ((1, 32, 48), np.uint8)
    np.testing.assert_allclose(found[0], smooth, atol=2)
    colour = np.stack([smooth, smooth[::-1], 200 - smooth], axis=-1)
    path = save(tmp_path / "b", colour, "jpeg", quality=100, subsampling=0)
    (found,) = read_picture(path, "jpeg")
    np.testing.assert_allclose(found, np.moveaxis(colour, -1, 0), atol=4)


def test_jpegs_that_are_refused(tmp_path):
    path = tmp_path / "a"
    Image.new("CMYK", (8, 8)).save(path, format="JPEG")
    assert code_of(path, "jpeg") == "PIXEL_FORMAT_UNSUPPORTED"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    assert code_of(save(path, noise, "jpeg"), "jpeg", label=True) == "LABEL_INVALID"
    path.write_bytes(path.read_bytes()[:-900])
    assert code_of(path, "jpeg") == "DECODE_FAILED"
    frames = [Image.fromarray(noise), Image.fromarray(noise[::-1])]
    frames[0].save(path, format="MPO", save_all=True, append_images=frames[1:])
    assert code_of(path, "jpeg") == "TIME_SERIES_UNSUPPORTED"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("dtype", "sample"),
    [(np.uint8, 1), (np.uint16, 1), (np.int16, 2), (np.int32, 2), (np.float32, 3)],
)
def test_every_sample_of_a_tiff_is_kept(tmp_path, dtype, sample, order):
    ends = np.array([-1.5, 2.25]) if dtype is np.float32 else [np.iinfo(dtype).min, 1]
    top = np.finfo(dtype).max if dtype is np.float32 else np.iinfo(dtype).max
    array = np.array([[*ends, 7], [top, 4, 5]]).astype(dtype)
    path = make_tiff(tmp_path / "a", array, sample=sample, order=order)
    (found,) = read_picture(path, "tiff")
    np.testing.assert_array_equal(found[0], array)
    assert found.dtype.isnative


@pytest.mark.parametrize(
    ("array", "options"),
    [
        (GREY.astype(np.uint32), {}),
        (GREY.view(np.int8), {"sample": 2}),
        (GREY.astype(np.float64), {"sample": 3}),
        (GREY.astype(np.float16), {"sample": 3}),
        (GREY.astype(np.uint16), {"photometric": 0}),
        (GREY.astype(np.float32), {"photometric": 0, "sample": 3}),
        (np.zeros((2, 2, 4), np.uint8), {"photometric": 5}),
        (np.zeros((2, 2, 4), np.uint8), {"photometric": 2, "extra": [(338, 2)]}),
        (np.zeros((2, 2, 3), np.uint8), {"photometric": 8}),
        (np.zeros((2, 2, 3), np.uint8), {"photometric": 6}),
    ],
)
def test_tiffs_that_are_refused(tmp_path, array, options):
    path = make_tiff(tmp_path / "a", array, **options)
    assert code_of(path, "tiff") in ("PIXEL_FORMAT_UNSUPPORTED", "DECODE_FAILED")


def test_white_is_zero_of_eight_bits_is_turned_round(tmp_path):
    path = make_tiff(tmp_path / "a", GREY, photometric=0)
    np.testing.assert_array_equal(read_picture(path, "tiff")[0][0], 255 - GREY)
    assert code_of(path, "tiff", label=True) == "LABEL_INVALID"


def test_pages_of_a_tiff(tmp_path):
    def stack(*arrays, **options):
        images = [Image.fromarray(array) for array in arrays]
        path = tmp_path / "a"
        images[0].save(path, format="TIFF", save_all=True, append_images=images[1:], **options)
        return path

    path = stack(GREY, GREY + 1, GREY + 2, compression="tiff_lzw")
    for number, page in enumerate(read_picture(path, "tiff")):
        np.testing.assert_array_equal(page[0], GREY + number)
    assert number == 2
    assert code_of(path, "tiff", label=True) == "LABEL_INVALID"
    assert code_of(stack(GREY, GREY[:2]), "tiff") == "TIME_SERIES_UNSUPPORTED"
    assert code_of(stack(GREY, GREY.astype(np.uint16)), "tiff") == "TIME_SERIES_UNSUPPORTED"
    path = make_tiff(tmp_path / "b", GREY, extra=[(254, 1)])  # a smaller copy
    assert code_of(path, "tiff") == "TIME_SERIES_UNSUPPORTED"


def test_nan_and_damage_in_a_tiff(tmp_path):
    path = make_tiff(tmp_path / "a", np.full((2, 2), np.nan, np.float32), sample=3)
    assert code_of(path, "tiff") == "VOXELS_INVALID"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    path = make_tiff(tmp_path / "b", noise)
    data = path.read_bytes()
    path.write_bytes(data[:8] + data[1000:])
    assert code_of(path, "tiff") == "DECODE_FAILED"
    path.write_bytes(data[:30])
    assert code_of(path, "tiff") == "DECODE_FAILED"


def test_pixel_bomb(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    for kind in ("png", "jpeg", "tiff"):
        Image.new("L", (9, 9)).save(tmp_path / kind, format=kind.upper())
        assert code_of(tmp_path / kind, kind) == "DECODE_FAILED"


def test_damaged_exif_data_is_not_passed_over(tmp_path):
    path = save(tmp_path / "a", GREY, "jpeg", exif=exif(6))
    data = path.read_bytes()
    path.write_bytes(
        data.replace(b"MM\x00*\x00\x00\x00\x08\x00\x01", b"MM\x00*\x00\x00\x00\x08\x00\xff")
    )
    assert path.read_bytes() != data
    assert code_of(path, "jpeg") == "DECODE_FAILED"


def test_no_flipped_bit_of_a_png_goes_unseen(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (12, 12), np.uint8)
    path = save(tmp_path / "a", noise)
    data = path.read_bytes()
    refused = 0
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        try:
            np.testing.assert_array_equal(read_png(path)[0], noise)
        except MedsslError:
            refused += 1
    assert refused > 0.9 * len(data)
