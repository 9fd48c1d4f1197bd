from __future__ import annotations

import shutil
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage, generate_uid

from medssl.errors import Exit
from medssl.ingest.dicomdir import file_ids, read_directories
from medssl.ingest.scan import Kind, scan


def record(file_id=None, in_use=0xFFFF, kind="IMAGE"):
    data = Dataset()
    data.OffsetOfTheNextDirectoryRecord = 0
    data.RecordInUseFlag = in_use
    data.OffsetOfReferencedLowerLevelDirectoryEntity = 0
    data.DirectoryRecordType = kind
    if kind == "PATIENT":
        data.PatientName, data.PatientID = "Doe^Jane", "P1"
    if file_id is not None:
        data.ReferencedFileID = file_id
    return data


def write_directory(folder, *records, name="DICOMDIR"):
    folder.mkdir(parents=True, exist_ok=True)
    data = Dataset()
    data.FileSetID = "X"
    data.DirectoryRecordSequence = list(records)
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    data.save_as(folder / name, enforce_file_format=True)
    return folder / name


def files(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def counts(root):
    (directory,) = read_directories(scan(root))
    return directory.named, directory.missing


def test_what_it_names_is_looked_for_in_its_own_folder(tmp_path):
    records = [record(["A", "IM1"]), record(["A", "IM2"]), record("IM3"), record(["B", "IM4"])]
    write_directory(tmp_path / "cd", record(kind="PATIENT"), *records)
    files(tmp_path / "cd", "A/IM1", "a/im2", "IM3.;1")
    files(tmp_path, "B/IM4")
    assert counts(tmp_path) == (4, 1)


def test_records_that_are_not_in_use_or_come_twice(tmp_path):
    write_directory(tmp_path, record("GONE", in_use=0), record("IM1"), record("IM1"))
    files(tmp_path, "IM1")
    assert counts(tmp_path) == (1, 0)


@pytest.mark.parametrize(
    "file_id", [["..", "IM1"], ["", "tmp", "IM1"], "../IM1", "/IM1", ["A", ".", "IM1"], ["A"] * 9]
)
@pytest.mark.filterwarnings("ignore")
def test_a_file_id_that_leads_elsewhere_is_missing(tmp_path, file_id):
    write_directory(tmp_path / "cd", record(file_id))
    files(
        tmp_path, "IM1", "cd/A/IM1", "/".join(["cd", *["A"] * 9]) if file_id == ["A"] * 9 else "x"
    )
    assert counts(tmp_path) == (1, 1)


def test_it_is_told_by_content_and_a_damaged_one_is_refused(tmp_path):
    path = write_directory(tmp_path, record("IM1"), name="index")
    (found,) = scan(tmp_path)
    assert found.kind is Kind.DICOMDIR
    path.write_bytes(path.read_bytes()[:340])
    (directory,) = read_directories(scan(tmp_path))
    assert directory.error is not None
    assert directory.error.code == "FILE_UNREADABLE"


def test_the_directories_that_come_with_pydicom():
    folder = Path(pydicom.__file__).parent / "data" / "test_files" / "dicomdirtests"
    if not folder.is_dir():
        pytest.skip("pydicom came without its test files")
    ids = file_ids(folder / "DICOMDIR")
    assert len(ids) == 31
    there = sum((folder.joinpath(*name)).is_file() for name in ids)
    by_folder = {d.item.relative: d for d in read_directories(scan(folder))}
    assert by_folder["DICOMDIR"].missing == 31 - there


def test_a_medium_that_lacks_a_file_is_not_all_done(tmp_path, write_stack, ingested):
    paths = write_stack(tmp_path / "in" / "DATA")
    names = [path.name.upper() for path in paths]
    write_directory(tmp_path / "in", *[record(["DATA", name]) for name in names])
    (tmp_path / "in" / "AUTORUN.INF").write_text("x")
    summary, rows = ingested()
    assert summary.exit_code is Exit.DONE
    assert rows["DICOMDIR"] == ("used", "")
    shutil.rmtree(tmp_path / "store")
    paths[-1].unlink()
    shutil.rmtree(tmp_path / "store.private")
    summary, rows = ingested()
    assert (summary.volumes, summary.exit_code) == (1, Exit.SOME_REJECTED)
    assert "1 files that a DICOMDIR names are not there." in summary.notes
    text = (tmp_path / "store.private" / "ledger.csv").read_text()
    assert "names 4 files, 1 of them not there" in text
    assert "Doe" not in text


def test_dicom_without_endings_among_text(tmp_path, write_stack, ingested):
    for path in write_stack(tmp_path / "in" / "a"):
        path.rename(path.with_name(path.name.upper().replace(".", "")))
    (tmp_path / "in" / "a" / "README").write_text("x")
    (tmp_path / "in" / "a" / "notes.txt").write_text("x")
    summary, _ = ingested()
    assert summary.counts == {("ignored", "NOT_AN_IMAGE"): 2, ("used", ""): 4}
