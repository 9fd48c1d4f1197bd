from __future__ import annotations

import gzip
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from medssl.errors import MedsslError
from medssl.ingest.scan import Kind, scan


def kinds(root):
    return {item.relative: item.kind for item in scan(root)}


def test_kind_is_told_by_content_not_by_name(tmp_path, make_slice):
    data = make_slice(np.zeros((2, 2), np.uint16))
    data.save_as(tmp_path / "no_suffix", enforce_file_format=True)
    del data.file_meta
    data.save_as(tmp_path / "bare.txt", implicit_vr=True, little_endian=True)
    data.save_as(tmp_path / "bare_explicit", implicit_vr=False, little_endian=True)
    image = nib.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.eye(4))
    (tmp_path / "volume").write_bytes(image.to_bytes())
    (tmp_path / "volume2").write_bytes(gzip.compress(nib.Nifti2Image.from_image(image).to_bytes()))
    Image.new("L", (2, 2)).save(tmp_path / "picture.dcm", format="PNG")
    np.savez(tmp_path / "set", train_images=np.zeros(1))
    (tmp_path / "subjects.csv").write_text("file\n")
    (tmp_path / "readme.txt").write_text("hello")
    assert kinds(tmp_path) == {
        "no_suffix": Kind.DICOM,
        "bare.txt": Kind.DICOM,
        "bare_explicit": Kind.DICOM,
        "volume": Kind.NIFTI,
        "volume2": Kind.NIFTI,
        "picture.dcm": Kind.PNG,
        "set.npz": Kind.NPZ,
        "subjects.csv": Kind.TABLE,
        "readme.txt": Kind.OTHER,
    }


def test_broken_and_unsupported_files_are_not_passed_over(tmp_path):
    (tmp_path / "a.dcm").write_bytes(b"")
    (tmp_path / "IM0001").write_bytes(b"")
    (tmp_path / "b.nii.gz").write_bytes(b"junk")
    (tmp_path / "c.nrrd").write_bytes(b"NRRD0004\n")
    (tmp_path / "d.hdr").write_bytes((348).to_bytes(4, "little") + bytes(344))
    (tmp_path / "e.tgz").write_bytes(gzip.compress(b"x" * 999))
    assert kinds(tmp_path) == {
        "a.dcm": Kind.BROKEN,
        "IM0001": Kind.BROKEN,
        "b.nii.gz": Kind.BROKEN,
        "c.nrrd": Kind.NRRD,
        "d.hdr": Kind.ANALYZE,
        "e.tgz": Kind.UNSUPPORTED,
    }


def test_links_out_of_the_folder_are_not_followed(tmp_path):
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    root.mkdir()
    (outside / "secret.txt").write_text("x")
    (root / "inside.txt").write_text("x")
    (root / "file").symlink_to(outside / "secret.txt")
    (root / "folder").symlink_to(outside)
    (root / "loop").symlink_to(root)
    (root / "again").symlink_to(root / "inside.txt")
    assert kinds(root) == {
        "again": Kind.OTHER,
        "file": Kind.LINK,
        "folder": Kind.LINK,
        "inside.txt": Kind.OTHER,
        "loop": Kind.LINK,
    }


def test_order_is_by_relative_path_and_pipes_do_not_block(tmp_path):
    for name in ("b/2", "b/1", "a/9", "c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    os.mkfifo(tmp_path / "pipe")
    assert [item.relative for item in scan(tmp_path)] == ["a/9", "b/1", "b/2", "c", "pipe"]


def test_one_file_can_be_the_input_and_a_missing_one_cannot(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("x")
    assert [item.relative for item in scan(path)] == ["x.txt"]
    with pytest.raises(MedsslError, match="INPUT_MISSING"):
        scan(tmp_path / "none")


def test_a_folder_that_cannot_be_opened_is_listed(tmp_path, monkeypatch):
    (tmp_path / "locked").mkdir()
    (tmp_path / "x.txt").write_text("x")
    opened = os.scandir

    def refuse(folder):
        if Path(folder).name == "locked":
            raise PermissionError
        return opened(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    assert kinds(tmp_path) == {"locked": Kind.BROKEN, "x.txt": Kind.OTHER}
