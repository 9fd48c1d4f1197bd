"""Damaged bytes: no crash, no hang, every file in the ledger."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medssl.errors import CODES, MedsslError
from medssl.ingest.headers import Refused
from medssl.ingest.pixels import SliceReader
from medssl.ingest.run import ingest
from medssl.ingest.slices import read_slices

sys.path.insert(0, str(Path(__file__).parent))
from mutation import mutated, numbers, relaxed


def read_whole(path: Path) -> str:
    """ "read", or the code of the refusal; anything else is raised."""
    found = read_slices(path)
    if isinstance(found, Refused):
        return found.code
    reader = SliceReader()
    for header in found[:3]:
        try:
            reader.read(header)
        except MedsslError as error:
            return error.code
    return "read"


@relaxed
@given(seed=st.integers(0, 2**32))
def test_a_changed_slice_is_read_or_refused(tmp_path, write_stack, seed):
    folder = tmp_path / "base"
    if not folder.exists():
        write_stack(folder, 1, modality="CT")
    path = tmp_path / f"f{next(numbers)}"
    path.write_bytes(mutated(next(folder.iterdir()).read_bytes(), seed))
    assert read_whole(path) in {"read", *CODES}


@pytest.mark.data
@relaxed
@given(seed=st.integers(0, 2**32), which=st.integers(0, 7))
def test_a_changed_real_file_is_read_or_refused(tmp_path, data_root, seed, which):
    folders = (
        "vendors/generic/compressed_jpegls/001",
        "vendors/generic/compressed_rle/001",
        "vendors/generic/compressed_j2k/001",
        "vendors/generic/compressed_jpeg/001",
        "vendors/hyperfine/anatomical/001",
        "enhanced/Siemens/XA10",
        "mosaic/ax/axint35",
        "epi/ge/mr_0004",
    )
    source = sorted((data_root / "dicom" / folders[which]).iterdir())[0]
    path = tmp_path / f"f{next(numbers)}"
    path.write_bytes(mutated(source.read_bytes(), seed))
    assert read_whole(path) in {"read", *CODES}


def test_a_tree_of_changed_files_is_accounted_for(tmp_path, write_stack):
    for index in range(12):
        files = write_stack(tmp_path / "in" / str(index), 3, series=f"1.{index + 1}")
        if index:
            files[1].write_bytes(mutated(files[1].read_bytes(), index))
    summary = ingest(tmp_path / "in", tmp_path / "store")
    assert sum(summary.counts.values()) == summary.found == 36
    assert summary.volumes >= 1


@pytest.mark.parametrize("syntax", ["nonsense", "1.2.840.113619.5.2"])
def test_a_transfer_syntax_that_is_none_is_refused(tmp_path, write_stack, syntax):
    (file,) = write_stack(tmp_path, 1)
    data = pydicom.dcmread(file)
    data.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(file, data, implicit_vr=False, little_endian=True)
    (header,) = read_slices(file)
    with pytest.raises(MedsslError, match="DICOM_TAG_INVALID"):
        SliceReader().read(header)


def test_a_panicking_decoder_refuses_its_file_alone(tmp_path, write_stack, monkeypatch):
    class Panic(BaseException):
        """As a decoder written in Rust raises it: no Exception."""

    def panic(self):
        raise Panic

    (header,) = read_slices(write_stack(tmp_path, 1)[0])
    monkeypatch.setattr(pydicom.Dataset, "pixel_array", property(panic))
    with pytest.raises(MedsslError, match="DECODE_FAILED"):
        SliceReader().read(replace(header, raw=None))
