from __future__ import annotations

import gzip
import io
import os
import random
import shutil
import stat
import tarfile
import zipfile
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from medssl.errors import Exit
from medssl.ingest import archives
from medssl.ingest.archives import ArchiveLimits, open_archives
from medssl.ingest.run import ingest
from medssl.ingest.scan import ARCHIVES, Kind, scan, sniff, walk
from medssl.store import Store

AFFINE = np.diag([-1.0, 2.0, 3.0, 1.0])


def nifti_bytes(seed=0):
    array = np.random.default_rng(seed).integers(0, 1000, (4, 5, 6)).astype(np.int16)
    image = nib.Nifti1Image(array, AFFINE)
    image.set_qform(AFFINE, 1)
    return image.to_bytes()


def make_zip(path, members, method=zipfile.ZIP_DEFLATED):
    """Members: name (or ZipInfo) and bytes, in order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def make_tar(path, members, mode="w:gz"):
    """Members: name (or TarInfo) and bytes, in order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, data in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(data) if info.isreg() else 0
            archive.addfile(info, io.BytesIO(data))
    return path


def tar_info(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def opened(root, tmp_path, **limits):
    """What the archives below a folder hold."""
    listed = [item for item in walk(root) if sniff(item.path)[0] in ARCHIVES]
    return open_archives(listed, tmp_path / "scratch", ArchiveLimits(**limits))


def kinds(result):
    return {i.relative: Kind.LINK if i.link else sniff(i.path)[0] for i in result.listed}


def refusal(root, tmp_path, **limits):
    """The code of the one archive, of which nothing may be left."""
    shutil.rmtree(tmp_path / "scratch", ignore_errors=True)
    result = opened(root, tmp_path, **limits)
    assert (result.listed, result.members) == ([], {})
    assert [path.suffix for path in (tmp_path / "scratch").iterdir()] == [".json"]
    (rejection,) = result.rejections
    return rejection.code


PLAIN = [("a/1", b"one"), ("a/2", b"two"), ("b.csv", b"file\n")]


@pytest.mark.parametrize("name", ["s.zip", "s.tar", "s.tar.gz", "s.tgz", "no_ending"])
def test_members_are_files_below_the_archive(tmp_path, name):
    make = make_zip if name in ("s.zip", "no_ending") else make_tar
    options = {"mode": "w"} if name == "s.tar" else {}
    path = make(tmp_path / "in" / name, PLAIN, **options)
    result = opened(tmp_path / "in", tmp_path)
    assert result.members == {path: 3}
    names = [item.relative for item in result.listed]
    assert names == [f"{name}/a/1", f"{name}/a/2", f"{name}/b.csv"]
    assert [item.path.read_bytes() for item in result.listed] == [b"one", b"two", b"file\n"]
    assert kinds(result)[f"{name}/b.csv"] is Kind.TABLE
    assert [item.path.name for item in result.listed] == ["0", "1", "2.csv"]
    assert all(item.path.is_relative_to(tmp_path / "scratch") for item in result.listed)


def test_an_archive_is_unpacked_once(tmp_path, monkeypatch):
    path = make_zip(tmp_path / "in" / "a.zip", PLAIN)
    make_tar(tmp_path / "in" / "b.tgz", [("../x", b"")])
    first = opened(tmp_path / "in", tmp_path)
    monkeypatch.setattr(archives, "_unpack", None)
    assert opened(tmp_path / "in", tmp_path) == first
    monkeypatch.undo()
    make_zip(path, PLAIN[:2])
    assert opened(tmp_path / "in", tmp_path).members == {path: 2}


@pytest.mark.parametrize("make", [make_zip, make_tar])
@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", "/etc/x", "C:\\x", "..\\..\\x", "a\\..\\..\\x", "."]
)
def test_names_that_lead_out_are_refused(tmp_path, make, name):
    make(tmp_path / "in" / "s", [("good", b"1"), (name, b"2")])
    assert refusal(tmp_path / "in", tmp_path) == "ARCHIVE_UNSAFE"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "scratch"]


@pytest.mark.parametrize("make", [make_zip, make_tar])
@pytest.mark.parametrize("names", [("a", "a"), ("a/b", "a//b"), ("a", "./a"), ("a", "a/b")])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_one_name_twice_is_refused(tmp_path, make, names):
    make(tmp_path / "in" / "s", [(name, b"x") for name in names])
    assert refusal(tmp_path / "in", tmp_path) == "ARCHIVE_UNSAFE"


def test_links_and_devices_are_listed_and_never_made(tmp_path):
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    pipe = zipfile.ZipInfo("pipe")
    pipe.external_attr = (stat.S_IFIFO | 0o777) << 16
    make_zip(tmp_path / "in" / "a.zip", [(link, b"/etc/passwd"), (pipe, b""), ("f", b"x")])
    members = [
        (tar_info("hard", tarfile.LNKTYPE, "/etc/passwd"), b""),
        (tar_info("soft", tarfile.SYMTYPE, "../../x"), b""),
        (tar_info("device", tarfile.CHRTYPE), b""),
        (tar_info("pipe", tarfile.FIFOTYPE), b""),
        (tar_info("folder", tarfile.DIRTYPE), b""),
        ("soft2/f", b"x"),
    ]
    make_tar(tmp_path / "in" / "b.tgz", members)
    result = opened(tmp_path / "in", tmp_path)
    assert kinds(result) == {
        "a.zip/f": Kind.OTHER,
        "a.zip/link": Kind.LINK,
        "a.zip/pipe": Kind.OTHER,
        "b.tgz/device": Kind.OTHER,
        "b.tgz/hard": Kind.LINK,
        "b.tgz/pipe": Kind.OTHER,
        "b.tgz/soft": Kind.LINK,
        "b.tgz/soft2/f": Kind.OTHER,
    }
    made = list((tmp_path / "scratch").glob("*/*"))
    assert len(made) == 2
    assert all(p.is_file() and not p.is_symlink() for p in made)


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_bombs_are_stopped_while_they_unpack(tmp_path, make):
    path = make(tmp_path / "in" / "s", [("a", bytes(2**22)), ("b", bytes(2**22))])
    assert path.stat().st_size < 2**16
    assert refusal(tmp_path / "in", tmp_path, free=2**22) == "ARCHIVE_TOO_LARGE"
    shutil.rmtree(tmp_path / "scratch")
    assert len(opened(tmp_path / "in", tmp_path, free=2**24).members) == 1


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_too_many_members(tmp_path, make):
    make(tmp_path / "in" / "s", [(str(i), b"") for i in range(6)])
    assert refusal(tmp_path / "in", tmp_path, members=5) == "ARCHIVE_TOO_LARGE"


def test_a_full_disk_is_not_filled(tmp_path, monkeypatch):
    make_zip(tmp_path / "in" / "s", [("a", os.urandom(2**16))])
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: SimpleNamespace(free=2**16))
    assert refusal(tmp_path / "in", tmp_path) == "ARCHIVE_TOO_LARGE"


def test_a_zip_that_lies_about_its_sizes(tmp_path):
    path = make_zip(tmp_path / "in" / "s", [("a", bytes(2**20))])
    data = path.read_bytes()
    size = (2**20).to_bytes(4, "little")
    assert data.count(size) == 2
    path.write_bytes(data.replace(size, (9).to_bytes(4, "little")))
    assert refusal(tmp_path / "in", tmp_path) == "FILE_TRUNCATED"


def test_a_tar_header_that_asks_for_all_memory(tmp_path):
    (tmp_path / "in").mkdir()
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 2**33
    header = info.tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "in" / "s").write_bytes(gzip.compress(header + bytes(2**26)))
    assert refusal(tmp_path / "in", tmp_path) == "ARCHIVE_TOO_LARGE"
    info = tarfile.TarInfo("x")  # a member that is skipped must not be unpacked to skip it
    info.type, info.size = b"Z", 2**40
    (tmp_path / "in" / "s").write_bytes(gzip.compress(info.tobuf(tarfile.GNU_FORMAT)))
    shutil.rmtree(tmp_path / "scratch")
    assert refusal(tmp_path / "in", tmp_path) == "ARCHIVE_TOO_LARGE"


def test_encrypted_and_unusual_zips(tmp_path):
    path = make_zip(tmp_path / "in" / "s", [("a", b"x")])
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    assert refusal(tmp_path / "in", tmp_path) == "ARCHIVE_ENCRYPTED"
    shutil.rmtree(tmp_path / "scratch")
    make_zip(path, [("a", b"x" * 99)], zipfile.ZIP_LZMA)
    assert refusal(tmp_path / "in", tmp_path) == "FORMAT_UNSUPPORTED"


@pytest.mark.parametrize("name", ["s.zip", "s.tar", "s.tgz"])
@pytest.mark.parametrize("cut", range(1, 10))
def test_an_archive_that_ends_early_is_refused_whole(tmp_path, name, cut):
    make = make_zip if name == "s.zip" else make_tar
    members = [(str(i), random.Random(i).randbytes(900)) for i in range(10)]
    path = make(tmp_path / "in" / name, members, *(["w"] if name == "s.tar" else []))
    data = path.read_bytes()
    # A tar may end on the border of a member, and Python's reader says nothing.
    end = 1536 * cut if name == "s.tar" else len(data) * cut // 10
    path.write_bytes(data[:end])
    assert refusal(tmp_path / "in", tmp_path) == "FILE_TRUNCATED"


def test_what_follows_the_end_of_a_tar_is_not_passed_over(tmp_path):
    path = make_tar(tmp_path / "in" / "s", PLAIN, "w")
    path.write_bytes(path.read_bytes() * 2)
    assert refusal(tmp_path / "in", tmp_path) == "FILE_TRUNCATED"


@pytest.mark.parametrize("name", ["s.zip", "s.tar", "s.tgz"])
def test_a_damaged_byte_never_passes_unseen_or_crashes(tmp_path, name):
    make = make_zip if name == "s.zip" else make_tar
    members = [(f"m{i}", random.Random(i).randbytes(900)) for i in range(4)]
    path = make(tmp_path / "in" / name, members, *(["w"] if name == "s.tar" else []))
    data, rng = path.read_bytes(), random.Random(1)
    for _ in range(150):
        broken = bytearray(data)
        broken[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(broken)
        shutil.rmtree(tmp_path / "scratch", ignore_errors=True)
        result = opened(tmp_path / "in", tmp_path)
        kind, _ = sniff(path)
        assert len(result.rejections) + len(result.members) == (kind in ARCHIVES)
        if name != "s.tar" and result.members:  # a tar has no checksum of its data
            there = [item.path for item in result.listed if item.path.exists()]
            whole = [path.read_bytes() for path in there]
            assert sorted(whole) == sorted(content for _, content in members)


def test_documents_are_no_folders_and_npz_stays_what_it_is(tmp_path):
    make_zip(tmp_path / "in" / "a.docx", [("[Content_Types].xml", b""), ("docProps/x.jpeg", b"")])
    make_zip(tmp_path / "in" / "b.odt", [("mimetype", b"x"), ("content.xml", b"")])
    np.savez(tmp_path / "in" / "c.npz", train_images=np.zeros((1, 2, 2)))
    (tmp_path / "in" / "d.zip").write_bytes(b"PK\x05\x06" + bytes(18))
    assert {item.relative: item.kind for item in scan(tmp_path / "in")} == {
        "a.docx": Kind.OTHER,
        "b.odt": Kind.OTHER,
        "c.npz": Kind.NPZ,
        "d.zip": Kind.ZIP,
    }


def test_an_archive_is_ingested_as_the_folder_it_was(tmp_path, write_stack, ingested):
    folder = tmp_path / "plain"
    write_stack(folder / "ct")
    members = [
        (p.relative_to(folder).as_posix(), p.read_bytes()) for p in (folder / "ct").iterdir()
    ]
    members += [
        ("set/images/a.nii", nifti_bytes(1)),
        ("set/images/b.nii", nifti_bytes(2)),
        ("set/subjects.csv", b"file,subject\na.nii,S1\nb.nii,S1\n"),
        ("inner.zip", make_zip(tmp_path / "x.zip", PLAIN).read_bytes()),
        ("notes.txt", b"x"),
        ("__MACOSX/._a.dcm", b"\x00\x05\x16\x07rest"),
    ]
    make_zip(tmp_path / "in" / "s.zip", members)
    make_tar(tmp_path / "in" / "bad.tgz", [("../x", b"1")])
    summary, rows = ingested()
    assert summary.exit_code is Exit.SOME_REJECTED
    assert (summary.found, summary.volumes, summary.subjects) == (12, 3, 2)
    assert rows["s.zip"] == ("used", "")
    assert rows["s.zip/set/images/a.nii"] == rows["s.zip/set/subjects.csv"] == ("used", "")
    assert rows["s.zip/inner.zip"] == ("rejected", "FORMAT_UNSUPPORTED")
    assert rows["s.zip/__MACOSX/._a.dcm"] == rows["s.zip/notes.txt"] == ("ignored", "NOT_AN_IMAGE")
    assert rows["bad.tgz"] == ("rejected", "ARCHIVE_UNSAFE")
    assert "archive of 10 files" in (tmp_path / "store.private" / "ledger.csv").read_text()
    left = sorted(p.name for p in tmp_path.iterdir())
    assert left == ["in", "plain", "store", "store.private", "x.zip"]


def test_the_same_scans_packed_and_unpacked_are_the_same_volumes(tmp_path, ingested):
    (tmp_path / "in" / "plain").mkdir(parents=True)
    (tmp_path / "in" / "plain" / "a.nii").write_bytes(nifti_bytes())
    make_tar(tmp_path / "in" / "s.tgz", [("a.nii", nifti_bytes())])
    summary, rows = ingested()
    assert summary.volumes == 1
    assert rows["s.tgz/a.nii"] == ("duplicate", "DUPLICATE")


def test_no_name_in_an_archive_reaches_the_store(tmp_path, ingested, capfd):
    members = [
        ("Canary_Jane/dataset_description.json", b'{"BIDSVersion": "1.9.0", "Name": "Canary"}'),
        ("Canary_Jane/sub-Canary/anat/sub-Canary_T1w.nii", nifti_bytes()),
        ("Canary_Jane/sub-Canary/anat/sub-Canary_T1w.json", b'{"PatientName": "Canary"}'),
        ("Canary_Jane/Canary.mhd", b"ObjectType = Image\nElementDataFile = Canary.raw\n"),
        ("Canary_Jane/Canary.tif", b"II*\0Canary"),
    ]
    make_zip(tmp_path / "in" / "Canary.zip", members)
    make_zip(tmp_path / "in" / "Canary2.zip", [("../Canary", b"x")])
    summary, _ = ingested()
    assert summary.volumes == 1
    texts = [str(summary.as_json()), *capfd.readouterr()]
    store = Store.open(tmp_path / "store")
    texts += [store.manifest.to_csv(), store.ledger.to_csv()]
    texts += [p.read_bytes().decode("latin-1") for p in store.path.rglob("*") if p.is_file()]
    assert not any("Canary" in text for text in texts)


def test_one_archive_can_be_the_input(tmp_path, ingested):
    make_zip(tmp_path / "in", [("a.nii", nifti_bytes())])
    summary, rows = ingested()
    assert rows == {"in": ("used", ""), "in/a.nii": ("used", "")}
    assert len(Store.open(tmp_path / "store")) == summary.volumes == 1


def test_members_wait_for_the_next_time_when_reading_fails(tmp_path, ingested, monkeypatch):
    make_zip(tmp_path / "in" / "s.zip", [("a.nii", nifti_bytes())])

    def fail(*arguments):
        raise RuntimeError

    with monkeypatch.context() as patched:
        patched.setattr("medssl.ingest.steps.plan", fail)
        with pytest.raises(RuntimeError):
            ingested()
    assert (tmp_path / ".store.partial").stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(archives, "_unpack", None)
    summary, _ = ingested()
    assert summary.volumes == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "store", "store.private"]


def test_an_archive_is_added_to_a_store_and_then_known(tmp_path):
    make_zip(tmp_path / "in" / "a.zip", [("a.nii", nifti_bytes(1))])
    ingest(tmp_path / "in", tmp_path / "store")
    make_zip(tmp_path / "in" / "b.zip", [("a.nii", nifti_bytes(1)), ("b.nii", nifti_bytes(2))])
    summary = ingest(tmp_path / "in", tmp_path / "store", add=True)
    assert (summary.volumes, summary.added, summary.found, summary.known) == (2, 1, 4, 1)
    assert summary.counts == {("duplicate", "DUPLICATE"): 1, ("used", ""): 2}
    summary = ingest(tmp_path / "in", tmp_path / "store", add=True)
    assert (summary.volumes, summary.added, summary.known) == (2, 0, 2)
