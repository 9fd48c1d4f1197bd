"""The lean walk says what pydicom says, or leaves the file to it."""

from __future__ import annotations

import random
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ImplicitVRLittleEndian, RLELossless

from medssl.errors import MedsslError
from medssl.ingest import lean, look, slices
from medssl.ingest.attributes import ATTRIBUTES
from medssl.ingest.headers import Refused
from medssl.ingest.journal import line
from medssl.ingest.lean import read_lean
from medssl.ingest.pixels import SliceReader, read_plain
from medssl.ingest.scan import Kind
from medssl.ingest.shared import Repeats
from medssl.ingest.slices import read_slices

sys.path.insert(0, str(Path(__file__).parent))
from mutation import mutated, numbers, relaxed

REAL = ("ct_slices", "vendors", "mosaic", "epi", "identified", "twelve_bit", "enhanced")


@pytest.fixture
def by_pydicom(monkeypatch):
    """Reads a file's slices without the lean walk."""

    def read(path):
        with monkeypatch.context() as patch:
            patch.setattr(slices, "read_lean", lambda *_: None)
            return read_slices(path)

    return read


def test_the_table_is_that_of_the_standard():
    for keyword, (tag, vr) in ATTRIBUTES.items():
        assert (tag, vr) == (tag_for_keyword(keyword), dictionary_VR(keyword)), keyword


def implicit(data: Dataset) -> None:
    data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian


def nested(data: Dataset) -> None:
    """Sequences of undefined length within each other, before wanted tags."""
    inner, outer = Dataset(), Dataset()
    inner.CodeValue = "1"
    outer.PurposeOfReferenceCodeSequence = Sequence([inner, inner])
    data.ReferencedImageSequence = Sequence([outer, Dataset()])
    for sequence in (data["ReferencedImageSequence"], outer["PurposeOfReferenceCodeSequence"]):
        sequence.is_undefined_length = True
    for item in (inner, outer):
        item.is_undefined_length_sequence_item = True


def both(data: Dataset) -> None:
    implicit(data)
    nested(data)


def private(data: Dataset) -> None:
    data.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0A, "US", 1)


def umlauts(data: Dataset) -> None:
    data.SpecificCharacterSet, data.PatientID = "ISO_IR 100", "J\u00f6rg"


def kanji(data: Dataset) -> None:
    data.SpecificCharacterSet, data.PatientID = "ISO_IR 192", "\u5c71\u7530"


def no_set(data: Dataset) -> None:
    umlauts(data)
    data.SpecificCharacterSet = "ISO_IR 101"


@pytest.mark.parametrize("change", [None, implicit, nested, both, private, umlauts, kanji])
def test_plain_files_are_read_without_pydicom(tmp_path, write_stack, by_pydicom, change):
    def apply(_, data):
        if change is not None:
            change(data)

    for path in write_stack(tmp_path, 3, change=apply, EchoTime="4.920", SliceThickness=2):
        assert read_lean(path, slices.PRIVATE) is not None
        short, full = read_slices(path), by_pydicom(path)
        assert short == full
        assert short[0].raw is not None
        assert full[0].raw is None
        np.testing.assert_array_equal(SliceReader().read(short[0]), SliceReader().read(full[0]))


def two_values(data: Dataset) -> None:
    data["PatientID"]._value = "P1\\P2"


def umlauts(data: Dataset) -> None:
    data.SpecificCharacterSet, data.PatientID = "ISO_IR 100", "Jörg"


def kanji(data: Dataset) -> None:
    data.SpecificCharacterSet, data.PatientID = "ISO_IR 192", "山田"


def two_sets(data: Dataset) -> None:
    data.SpecificCharacterSet, data.PatientID = ["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎"


def wrong_set(data: Dataset) -> None:
    data.SpecificCharacterSet, data.PatientID = "ISO_IR 100", "Jörg"
    data["SpecificCharacterSet"]._value = "ISO_IR 192"
    data["PatientID"]._value = b"J\xf6rg"


def not_decimal(data: Dataset) -> None:
    data["SliceThickness"]._value = "thick"


def a_table(data: Dataset) -> None:
    data.ModalityLUTSequence = Sequence([Dataset()])


@pytest.mark.parametrize("change", [two_values, no_set, not_decimal, a_table])
def test_what_is_unusual_is_left_to_pydicom(tmp_path, write_stack, by_pydicom, change):
    (path,) = write_stack(tmp_path, 1, change=lambda _, data: change(data), SliceThickness="2")
    assert read_lean(path) is None
    assert read_slices(path) == by_pydicom(path)


def test_a_compressed_file_has_no_plain_pixels(tmp_path, make_slice):
    data = make_slice(np.zeros((4, 4), np.uint16))
    data.compress(RLELossless)
    data.save_as(tmp_path / "rle", enforce_file_format=True)
    header = read_lean(tmp_path / "rle")
    assert header is not None
    assert header.pixels is None


def as_read(found):
    """Slices, or why there are none, and their pixels, or why not."""
    if isinstance(found, Refused):
        return found
    reader, pixels = SliceReader(), []
    for header in found[:3]:
        try:
            pixels.append(reader.read(header).tolist())
        except MedsslError as error:
            pixels.append(error.code)
    return found, pixels


@relaxed
@given(seed=st.integers(0, 2**32))
def test_damage_is_never_read_differently(tmp_path, write_stack, by_pydicom, seed):
    folder = tmp_path / "base"
    if not folder.exists():
        write_stack(folder, 1, modality="CT", change=lambda _, data: nested(data))
    path = tmp_path / f"f{next(numbers)}"
    path.write_bytes(mutated(next(folder.iterdir()).read_bytes(), seed))
    assert as_read(read_slices(path)) == as_read(by_pydicom(path))


@pytest.mark.data
@pytest.mark.parametrize("folder", REAL)
def test_real_files_are_read_alike(data_root: Path, by_pydicom, folder):
    paths = [p for p in sorted((data_root / "dicom" / folder).rglob("*")) if p.is_file()]
    lean = 0
    for path in random.Random(0).sample(paths, min(40, len(paths))):
        found = read_slices(path)
        lean += not isinstance(found, Refused) and found[0].raw is not None
        assert as_read(found) == as_read(by_pydicom(path))
    assert lean > 0 or folder == "enhanced"


def test_a_stack_is_read_at_once_as_slice_by_slice(tmp_path, write_stack):
    headers = [read_slices(p)[0] for p in write_stack(tmp_path, 3, modality="CT")]
    stack = read_plain(headers)
    assert stack is not None
    np.testing.assert_array_equal(stack, [SliceReader().read(header) for header in headers])
    assert read_plain([headers[0], replace(headers[1], slope=2.0)]) is None
    offset, length, allocated = headers[1].raw
    assert (
        read_plain([headers[0], replace(headers[1], raw=(offset, length - 2, allocated))]) is None
    )
    assert read_plain([headers[0], replace(headers[1], raw=(10**6, length, allocated))]) is None


def test_a_file_that_shrinks_between_header_and_pixels_is_refused(tmp_path, write_stack):
    (path,) = write_stack(tmp_path, 1)
    (header,) = read_slices(path)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(MedsslError, match="FILE_TRUNCATED"):
        SliceReader().read(header)


def test_bits_above_the_stored_ones_are_refused(tmp_path, make_slice):
    data = make_slice(np.full((2, 2), 5000, np.uint16), bits=12)
    data.save_as(tmp_path / "x", enforce_file_format=True)
    (header,) = read_slices(tmp_path / "x")
    assert read_plain([header, header]) is None
    with pytest.raises(MedsslError, match="PIXEL_FORMAT_UNSUPPORTED"):
        SliceReader().read(header)


def steps(path):
    """A copy of a file whose slice lies elsewhere and is another instance, at another time."""
    data = pydicom.dcmread(path)
    for number in range(4):
        data.SOPInstanceUID = f"1.2.3.{10**number}"
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
        data.InstanceNumber, data.AcquisitionTime = number, f"12000{number}"
        data.ImagePositionPatient = [-0.0, 0.0, 2.5 * number]
        data.EchoTime = "-0.0" if number % 2 else "0.0"
        copy = path.with_name(f"{path.name}-{number}")
        data.save_as(copy, enforce_file_format=True)
        yield copy


def test_what_slices_have_alike_is_read_once_and_the_same(tmp_path, write_stack):
    """The lines of files looked at one after the other are those of each looked at alone."""
    (path,) = write_stack(tmp_path / "a", 1, EchoTime="1")
    (other,) = write_stack(tmp_path / "b", 1, modality="CT", PatientID="P2")
    implicitly, bare = tmp_path / "implicit", tmp_path / "bare"
    data = pydicom.dcmread(path)
    del data.ImagePositionPatient
    data.save_as(bare, enforce_file_format=True)
    implicit(data)
    data.save_as(implicitly, enforce_file_format=True)
    cut = tmp_path / "cut"
    cut.write_bytes(path.read_bytes()[:700])
    paths = [*steps(path), *steps(other), bare, *steps(path), implicitly, cut, *steps(path)]
    alone = []
    for one in paths:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lean, "_LAYOUTS", {})
            patch.setattr(look, "_REPEATS", Repeats())
            alone.append(line("k", look.look(one, tmp_path)))
    for _ in range(2):
        assert [line("k", look.look(one, tmp_path)) for one in paths] == alone
    assert [look.seen(one, look.look(one, tmp_path)).slices for one in paths] == [
        read_slices(one) for one in paths
    ]


@relaxed
@given(seed=st.integers(0, 2**32))
def test_damage_beside_a_sound_slice_is_never_read_differently(
    tmp_path, write_stack, by_pydicom, seed
):
    """A damaged file after sound ones, which leave their layout behind."""
    folder = tmp_path / "sound"
    if not folder.exists():
        write_stack(folder, 3, modality="CT", change=lambda _, data: nested(data))
    sound = sorted(folder.iterdir())
    path = tmp_path / f"g{next(numbers)}"
    path.write_bytes(mutated(sound[2].read_bytes(), seed))
    for one in (*sound, path):
        found = look.seen(one, look.look(one, tmp_path))
    if found.kind is Kind.DICOM:
        assert as_read(found.slices) == as_read(by_pydicom(path))
