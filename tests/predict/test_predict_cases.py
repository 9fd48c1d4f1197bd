"""Which DICOM series become cases, and which are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydicom
from pydicom.uid import generate_uid

from medssl.ingest.pseudonym import Pseudonymizer
from medssl.ingest.scan import scan
from medssl.predict.cases import find_cases


def test_a_series_of_several_volumes_is_refused_once_and_the_others_are_cases(
    tmp_path: Path, make_series: Any
) -> None:
    two = make_series(tmp_path / "in" / "two", shape=(6, 5, 3))
    make_series(tmp_path / "in" / "one", shape=(6, 5, 3))
    for index, file in enumerate(two.files):
        data = pydicom.dcmread(file)
        data.EchoTime = 5
        data.save_as(file)
        data.EchoTime, data.SOPInstanceUID = 10, generate_uid()
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
        data.save_as(file.with_name(f"second-{index}"))
    names = Pseudonymizer(bytes(32))
    finding = find_cases(scan(tmp_path / "in"), names, two_dimensional=False, pictures=False)
    (case,), (refusal,) = finding.cases, finding.refusals
    assert {file.parent.name for file in case.files} == {"one"}
    assert refusal.code == "TIME_SERIES_UNSUPPORTED"
    assert refusal.case_id == names.series(two.uid)
    assert len(refusal.files) == len(set(refusal.files)) == 6


def test_what_a_segmentation_could_not_refer_to_is_refused_and_reports_are_ignored(
    tmp_path: Path, make_series: Any
) -> None:
    tilted = make_series(tmp_path / "in", shape=(6, 5, 4))
    for file in tilted.files:
        data = pydicom.dcmread(file)
        x, y, z = (float(v) for v in data.ImagePositionPatient)
        data.ImagePositionPatient = [x, y + 0.2 * z, z]
        data.save_as(file)
    report = pydicom.dcmread(tilted.files[0])
    report.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    del report.PixelData, report.Rows, report.Columns
    report.save_as(tmp_path / "in" / "report")
    names = Pseudonymizer(bytes(32))
    finding = find_cases(scan(tmp_path / "in"), names, two_dimensional=False, pictures=False)
    assert [refusal.code for refusal in finding.refusals] == ["GANTRY_TILT"]
    assert (finding.cases, finding.ignored) == ([], 1)
