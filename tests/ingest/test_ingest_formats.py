"""Every format that is no single DICOM slice: what is said of it in the docs, and damaged bytes."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import random
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from PIL import Image

from medssl.errors import CODES, MedsslError
from medssl.ingest.formats import read_images
from medssl.ingest.run import ingest
from medssl.ingest.scan import IMAGE_KINDS, sniff

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "formats.md"
AFFINE = np.diag([-1.0, 2.0, 3.0, 1.0])


def voxels(*shape, dtype=np.int16, seed=0):
    return np.random.default_rng(seed).integers(0, 200, shape).astype(dtype)


def nifti(path, *shape, kind=nib.Nifti1Image, dtype=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    array = voxels(*shape) if dtype is None else np.zeros(shape, dtype)
    image = kind(array, AFFINE)
    if kind is not nib.AnalyzeImage:
        image.set_qform(AFFINE, 1)
    nib.save(image, path)


def itk(path, *shape, packed=False, vector=False):
    image = sitk.GetImageFromArray(voxels(*shape[::-1]), isVector=vector)
    sitk.WriteImage(image, str(path), useCompression=packed)


def picture(path, *shape, dtype=np.uint8, mode=None, pages=1, **options):
    images = [Image.fromarray(voxels(*shape, dtype=dtype, seed=i), mode) for i in range(pages)]
    more = {"save_all": True, "append_images": images[1:]} if pages > 1 else {}
    images[0].save(path, **more, **options)


def directory(folder):
    """A DICOMDIR that names a file which is not there."""
    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage

    record = pydicom.Dataset()
    record.DirectoryRecordType, record.ReferencedFileID = "IMAGE", ["A", "B"]
    data = pydicom.Dataset()
    data.DirectoryRecordSequence = [record]
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    data.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    data.save_as(folder / "DICOMDIR", enforce_file_format=True)
    nifti(folder / "a.nii", 4, 5, 6)


def bids(folder):
    (folder / "dataset_description.json").write_text(json.dumps({"BIDSVersion": "1.9.0"}))
    nifti(folder / "sub-1" / "anat" / "sub-1_T1w.nii.gz", 4, 5, 6)
    (folder / "sub-1" / "anat" / "sub-1_T1w.json").write_text("{}")


def packed(path):
    nifti(path.parent / "a.nii", 4, 5, 6)
    data = (path.parent / "a.nii").read_bytes()
    (path.parent / "a.nii").unlink()
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.nii", data)
    else:
        with tarfile.open(path, "w:gz") as archive:
            info = tarfile.TarInfo("a.nii")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


@dataclass(frozen=True)
class Case:
    """A row of the page: the format, how to make one, and what becomes of it."""

    name: str
    make: Callable[[Path], object]
    becomes: str


RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
CASES = [
    Case("NIfTI-1, with or without gzip", lambda f: nifti(f / "a.nii.gz", 4, 5, 6), "3D"),
    Case("NIfTI-2", lambda f: nifti(f / "a.nii", 4, 5, 6, kind=nib.Nifti2Image), "3D"),
    Case(
        "NIfTI pair (`.hdr`, `.img`)",
        lambda f: nifti(f / "a.img", 4, 5, 6, kind=nib.Nifti1Pair),
        "3D",
    ),
    Case("NIfTI of one slice", lambda f: nifti(f / "a.nii", 4, 5, 1), "2D"),
    Case(
        "NIfTI of three times", lambda f: nifti(f / "a.nii", 4, 5, 6, 3), "3 x 3D, `part` time=1/3"
    ),
    Case(
        "NIfTI of five dimensions",
        lambda f: nifti(f / "a.nii", 4, 5, 6, 1, 3),
        "`TIME_SERIES_UNSUPPORTED`",
    ),
    Case(
        "NIfTI in colour", lambda f: nifti(f / "a.nii", 4, 5, 6, dtype=RGB), "`COLOUR_UNSUPPORTED`"
    ),
    Case(
        "Analyze 7.5",
        lambda f: nifti(f / "a.img", 4, 5, 6, kind=nib.AnalyzeImage),
        "`FORMAT_UNSUPPORTED`",
    ),
    Case("MetaImage (`.mha`)", lambda f: itk(f / "a.mha", 4, 5, 6, packed=True), "3D"),
    Case("MetaImage (`.mhd` and its data file)", lambda f: itk(f / "a.mhd", 4, 5, 6), "3D"),
    Case("NRRD (`.nrrd`), raw or gzip", lambda f: itk(f / "a.nrrd", 4, 5, 6, packed=True), "3D"),
    Case("NRRD (`.nhdr` and its data file)", lambda f: itk(f / "a.nhdr", 4, 5, 6), "3D"),
    Case("NRRD or MetaImage in 2D", lambda f: itk(f / "a.mha", 4, 5), "`FORMAT_UNSUPPORTED`"),
    Case(
        "NRRD or MetaImage in 4D",
        lambda f: itk(f / "a.mha", 4, 5, 6, 2),
        "`TIME_SERIES_UNSUPPORTED`",
    ),
    Case(
        "NRRD or MetaImage of vectors",
        lambda f: itk(f / "a.mha", 3, 4, 5, 6, vector=True),
        "`PIXEL_FORMAT_UNSUPPORTED`",
    ),
    Case("PNG, grey, up to 16 bits", lambda f: picture(f / "a.png", 4, 5, dtype=np.uint16), "2D"),
    Case("PNG, colour, 8 bits", lambda f: picture(f / "a.png", 4, 5, 3), "2D"),
    Case(
        "PNG with transparency",
        lambda f: picture(f / "a.png", 4, 5, 4),
        "`PIXEL_FORMAT_UNSUPPORTED`",
    ),
    Case("JPEG, grey or colour", lambda f: picture(f / "a.jpg", 16, 16, 3), "2D"),
    Case(
        "JPEG in CMYK",
        lambda f: picture(f / "a.jpg", 16, 16, 4, mode="CMYK"),
        "`PIXEL_FORMAT_UNSUPPORTED`",
    ),
    Case(
        "TIFF, grey, up to 16 bits or float32",
        lambda f: picture(f / "a.tif", 4, 5, dtype=np.float32),
        "2D",
    ),
    Case("TIFF, colour, 8 bits", lambda f: picture(f / "a.tif", 4, 5, 3), "2D"),
    Case(
        "TIFF of two pages",
        lambda f: picture(f / "a.tif", 4, 5, pages=2),
        "2 x 2D, `part` page=1/2",
    ),
    Case(
        "TIFF that is to be turned",
        lambda f: picture(f / "a.tif", 4, 5, tiffinfo={274: 6}),
        "`PIXEL_FORMAT_UNSUPPORTED`",
    ),
    Case("BIDS tree", bids, "3D"),
    Case("Zip of scans", lambda f: packed(f / "a.zip"), "3D"),
    Case("Tar of scans, with or without gzip", lambda f: packed(f / "a.tgz"), "3D"),
    Case("DICOMDIR that names an absent file", directory, "3D, exit code 3"),
    Case(
        "Archives of bzip2, xz or 7z",
        lambda f: (f / "a.7z").write_bytes(b"7z\xbc\xaf\x27\x1c"),
        "`FORMAT_UNSUPPORTED`",
    ),
]


def outcome(case: Case, folder: Path) -> str:
    """What becomes of it, in the words of the page."""
    (folder / "in").mkdir(parents=True)
    case.make(folder / "in")
    summary = ingest(folder / "in", folder / "store")
    with (folder / "store.private" / "ledger.csv").open() as stream:
        codes = {row["code"] for row in csv.DictReader(stream) if row["outcome"] == "rejected"}
    if codes:
        return ", ".join(f"`{code}`" for code in sorted(codes))
    manifest = pd.read_parquet(folder / "store" / "manifest.parquet").sort_values("part")
    several = f"{len(manifest)} x " if len(manifest) > 1 else ""
    part = f", `part` {manifest['part'].iloc[0]}" if several else ""
    ending = f", exit code {int(summary.exit_code)}" if summary.exit_code else ""
    return f"{several}{manifest['dims'].iloc[0]}D{part}{ending}"


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_what_becomes_of_each_format(case, tmp_path):
    assert outcome(case, tmp_path) == case.becomes


def test_the_table_in_the_docs_says_the_same():
    rows = [f"| {case.name} | {case.becomes} |" for case in CASES]
    found = "\n".join(["| format | becomes |", "| --- | --- |", *rows])
    before, _, rest = PAGE.read_text(encoding="utf-8").partition("| format |")
    after = rest.partition("\n\n")[2]
    if os.environ.get("MEDSSL_UPDATE_DOCS"):
        PAGE.write_text(f"{before}{found}\n\n{after}", encoding="utf-8")
    assert found in PAGE.read_text(encoding="utf-8")


def mutated(data: bytes, rng: random.Random) -> bytes:
    """A few bytes of the header changed, cut out or doubled."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        end = min(len(out), rng.choice([60, 400, len(out)])) or 1
        start, size = rng.randrange(end), rng.choice([1, 2, 4, 16])
        match rng.randrange(4):
            case 0:
                out[start : start + size] = rng.randbytes(size)
            case 1:
                out[start : start + size] = bytes([rng.choice([0, 48, 57, 255])]) * size
            case 2:
                del out[start : start + size]
            case 3:
                out[start:start] = out[start : start + size]
    return bytes(out)


SAMPLES = {
    "a.nii": lambda p: nifti(p, 4, 5, 6, 2),
    "b.nii.gz": lambda p: nifti(p, 4, 5, 6),
    "c.nrrd": lambda p: itk(p, 4, 5, 6),
    "d.nrrd": lambda p: itk(p, 4, 5, 6, packed=True),
    "e.mha": lambda p: itk(p, 4, 5, 6),
    "f.mha": lambda p: itk(p, 4, 5, 6, packed=True),
    "g.png": lambda p: picture(p, 20, 20, dtype=np.uint16),
    "h.jpg": lambda p: picture(p, 20, 20, 3),
    "i.tif": lambda p: picture(p, 20, 20, pages=2),
    "j.tif": lambda p: picture(p, 20, 20, 3, compression="tiff_lzw"),
}


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.filterwarnings("ignore")
def test_damaged_bytes_end_in_an_image_or_a_code(tmp_path, name):
    path = tmp_path / name
    SAMPLES[name](path)
    data, rng, codes = path.read_bytes(), random.Random(name), set()
    zipped = data[:2] == b"\x1f\x8b"
    data = gzip.decompress(data) if zipped else data
    for _ in range(200):
        broken = mutated(data, rng)
        path.write_bytes(gzip.compress(broken) if zipped else broken)
        kind, _ = sniff(path)
        if kind not in IMAGE_KINDS:
            continue
        try:
            for image in read_images(kind, [path]):
                assert np.isfinite(image.array).all()
                assert image.array.ndim == (3 if image.affine is None else 4)
        except MedsslError as error:
            codes.add(error.code)
        except MemoryError:
            codes.add("OUT_OF_MEMORY")
    assert codes
    assert codes <= set(CODES)
