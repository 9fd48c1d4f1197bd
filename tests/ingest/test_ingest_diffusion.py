"""b-values: the standard's tag, and the makers' own where the block is theirs."""

from __future__ import annotations

import struct

import numpy as np
import pydicom
import pytest

from medssl.ingest.dicom import find_volumes
from medssl.ingest.diffusion import b_value

SIEMENS = (0x0019, "SIEMENS MR HEADER", 0x0C, "IS")
GE = (0x0043, "GEMS_PARM_01", 0x39, "IS")
PHILIPS = (0x2001, "Philips Imaging DD 001", 0x03, "FL")


def tagged(maker, value, kind=None, creator=None):
    group, name, element, own = maker
    data = pydicom.Dataset()
    data.add_new((group, 0x0010), "LO", creator or name)
    data.add_new((group, 0x1000 + element), kind or own, value)
    return data


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (tagged(SIEMENS, "1000"), "1000.0"),
        (tagged(SIEMENS, b"1000 ", "UN"), "1000.0"),
        (tagged(GE, ["1000001000", "8", "0", "0"]), "1000.0"),  # with GE's bias
        (tagged(GE, ["10000", "8", "0", "0"]), "10000.0"),
        (tagged(GE, b"1000000050\\8\\0\\0", "UN"), "50.0"),
        (tagged(PHILIPS, 800.0), "800.0"),
        (tagged(PHILIPS, struct.pack("<f", 800.0), "UN"), "800.0"),
        (tagged(PHILIPS, 0.0), "0.0"),
        (tagged(SIEMENS, "1000", creator="SOMEBODY ELSE"), ""),
        (tagged(SIEMENS, b"many", "UN"), ""),
        (tagged(PHILIPS, b"abc", "UN"), ""),
        (tagged(PHILIPS, float("nan")), ""),
        (pydicom.Dataset(), ""),
    ],
)
def test_b_value(data, expected):
    assert b_value(data) == expected


def test_the_standards_tag_comes_first():
    data = tagged(SIEMENS, "1000")
    data.DiffusionBValue = 700.0
    assert b_value(data) == "700.0"


@pytest.mark.parametrize(
    ("maker", "values"),
    [
        (SIEMENS, ["0", "1000"]),
        (GE, [["1000000000", "8"], ["1000001000", "8"]]),
        (PHILIPS, [0.0, 1000.0]),
    ],
)
def test_a_diffusion_series_is_split_by_it(tmp_path, make_slice, maker, values):
    files = []
    for volume, value in enumerate(values):
        for k in range(3):
            data = make_slice(np.full((3, 4), 10 * volume + k, np.uint16), position=(0, 0, 2.0 * k))
            data.update(tagged(maker, value))
            files.append(tmp_path / f"f{volume}{k}")
            data.save_as(files[-1], enforce_file_format=True)
    volumes, rejections = find_volumes(files)
    assert rejections == []
    assert [volume.part for volume in volumes] == ["b_value=0", "b_value=1000"]
    assert [int(volume.decode().min()) for volume in volumes] == [0, 10]
