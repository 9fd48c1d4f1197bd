"""Canary identifiers: planted wherever a file can carry one, and looked for in what is written.

All of them carry a mark that occurs nowhere else: a word in texts, a root in UIDs, years that are
still to come in dates, a fraction in times and numbers. So one search finds every one of them.
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import re
import tarfile
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pyarrow.parquet as parquet
import pydicom
import SimpleITK
from nibabel.nifti1 import Nifti1Extension
from PIL import Image, PngImagePlugin
from pydicom._dicom_dict import DicomDictionary
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import ComprehensiveSRStorage, ExplicitVRLittleEndian, MediaStorageDirectoryStorage

from medssl.ingest.profile import READ, Fate

WORD = "ZQCNRY"
ROOT = "1.2.826.0.1.3680043.777"
_MARKS = (
    re.escape(WORD.encode()),
    re.escape(WORD.encode("utf-16-le")),
    re.escape(WORD.encode("utf-16-be")),
    re.escape(ROOT.encode()),
    rb"(?<![0-9a-f])20(?:8[7-9]|9\d)-?(?:0[1-9]|1[0-2])-?(?:0[1-9]|[12]\d)(?![0-9a-f])",
    rb"131415\.777\d",
    rb"(?<!\d)777012\d\.25",
)
MARK = re.compile(b"|".join(_MARKS), re.IGNORECASE)
STUDY_DATE = "20501231"  # moves back by up to ten years: not into the years of the canaries

_numbers = itertools.count(1)
_STRUCTURE = {row.key for row in READ if row.fate in (Fate.USED, Fate.GEOMETRY, Fate.VOXELS)}
_STRUCTURE |= {"SOPClassUID", "StudyDate", "EchoTime", "EffectiveEchoTime", "InversionTime"}
_STRUCTURE |= {"DiffusionBValue", "PatientAge", "SpecificCharacterSet"}
# what the table calls structure and is free text or an identifier all the same
_STRUCTURE -= {"AcquisitionDate", "AcquisitionTime", "StackID", "BurnedInAnnotation"}
# what a file states of itself, and gets canaries of its own
_OWN = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "PatientID", "PatientName",
        "StudyDate")  # fmt: skip
_KEYWORDS = ("PatientName", "CodeMeaning", "TextValue", "PersonName", "InstitutionName")


def word() -> str:
    """A canary of 12 letters and digits."""
    return f"{WORD}{next(_numbers):06d}"


def value(vr: str) -> object:
    """A canary as a value of a VR, None where it cannot carry one."""
    number = next(_numbers)
    match vr:
        case "PN":
            return f"{word()}^{word()}"
        case "LO" | "SH" | "LT" | "ST" | "UT" | "UC" | "CS" | "AE":
            return word()
        case "UR":
            return f"https://{word()}.example"
        case "UI":
            return f"{ROOT}.{number}"
        case "DA":
            return f"{2087 + number % 13}{1 + number % 12:02d}{1 + number % 28:02d}"
        case "TM":
            return f"131415.777{number % 1000:03d}"
        case "DT":
            return f"{value('DA')}{value('TM')}"
        case "DS":
            return f"777012{number % 10}.25"
        case "OB" | "UN" | "OW" | "OB or OW":
            return word().encode()
    return None


def everywhere() -> Dataset:
    """A canary in every public attribute that can carry one and does not decide how an image is
    read; in items of every sequence; in private blocks, overlays, curves and paddings."""
    data = Dataset()
    with pydicom.config.disable_value_validation():
        return _filled(data)


def _filled(data: Dataset) -> Dataset:
    for tag, (vr, _, _, _, keyword) in DicomDictionary.items():
        group = tag >> 16
        if keyword in _STRUCTURE or group in (0x0000, 0x0002, 0x0004, 0x7FE0) or group >= 0xFFF0:
            continue
        if vr == "SQ":
            item = Dataset()
            for name in _KEYWORDS:
                setattr(item, name, word())
            data.add(DataElement(tag, "SQ", Sequence([item])))
        elif (planted := value(vr)) is not None and not (group == 0x0028 and vr[0] in "OU"):
            data.add(DataElement(tag, "OB" if isinstance(planted, bytes) else vr, planted))
    for group in (0x0009, 0x0019, 0x0029, 0x0043, 0x0051, 0x7053):
        block = data.private_block(group, word(), create=True)
        block.add_new(0x01, "LO", word())
        block.add_new(0x02, "UN", word().encode())
        block.add_new(0x03, "SQ", Sequence([Dataset()]))
        block[0x03].value[0].PatientName = word()
    for group, vr in ((0x6000, "OB"), (0x5000, "OB")):
        data.add(DataElement(Tag(group, 0x0022), "LO", word()))
        data.add(DataElement(Tag(group, 0x3000), vr, word().encode()))
    data.add(DataElement(Tag(0x6000, 0x1500), "LO", word()))
    data.add(DataElement(Tag(0xFFFC, 0xFFFC), "OB", word().encode()))
    return data


def plant(path: Path, more: Dataset, tag: str) -> None:
    """Plant canaries in a DICOM file, beside its ids; where it is too damaged, around it.

    Args:
        path: the file.
        more: elements to add.
        tag: of its folder, for ids that files of the folder share.
    """
    with pydicom.config.disable_value_validation():
        _plant(path, more, tag)


def _plant(path: Path, more: Dataset, tag: str) -> None:
    try:
        data = pydicom.dcmread(path)
        own = {element.tag.group for element in data if element.tag.is_private}
    except Exception:  # too damaged
        path.write_bytes(_preamble() + path.read_bytes()[128:])
        return
    for element in more:
        if element.keyword not in _OWN and element.tag.group not in own:
            data[element.tag] = element
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        if data.get(keyword):
            setattr(data, keyword, f"{ROOT}.{tag}.{str(data[keyword].value)[-20:].lstrip('.0')}")
    if data.get("PatientID"):
        data.PatientID = f"{WORD}{tag}{data.PatientID}"
    data.StudyDate, data.PatientName = STUDY_DATE, word()
    if data.get("BitsAllocated") == 16 and not data.file_meta.TransferSyntaxUID.is_encapsulated:
        # no two folders hold the same voxels, or one would be refused as the other's duplicate
        data.PixelData = (np.frombuffer(data.PixelData, "<i2") + int(tag)).astype("<i2").tobytes()
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    for keyword in ("Source", "Sending", "Receiving"):
        setattr(data.file_meta, f"{keyword}ApplicationEntityTitle", word())
    data.file_meta.ImplementationVersionName = word()
    data.file_meta.PrivateInformationCreatorUID = f"{ROOT}.1"
    data.file_meta.PrivateInformation = word().encode()
    data.preamble = _preamble()
    data.save_as(path, enforce_file_format=True)
    with path.open("ab") as stream:  # a length of its own: trailing bytes are no element
        stream.write(b"\xfe\xff" + word().encode())


def _noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(next(_numbers)).integers(0, 255, shape, dtype=np.uint8)


def _preamble() -> bytes:
    return word().encode().ljust(128, b"\0")


def report(path: Path) -> None:
    """A structured report."""
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = ComprehensiveSRStorage, f"{ROOT}.9.1"
    data.StudyInstanceUID = data.SeriesInstanceUID = f"{ROOT}.9.2"
    data.PatientID = data.PatientName = word()
    item = Dataset()
    item.ValueType, item.TextValue = "TEXT", word()
    data.ContentSequence = Sequence([item])
    _save(data, path)


def dicomdir(path: Path) -> None:
    """A DICOMDIR that names a patient and a file."""
    data = Dataset()
    data.FileSetID = word()
    item = Dataset()
    item.DirectoryRecordType, item.PatientName = "PATIENT", word()
    item.ReferencedFileID = [word(), word()]
    data.DirectoryRecordSequence = Sequence([item])
    data.SOPInstanceUID, data.SOPClassUID = f"{ROOT}.9.3", MediaStorageDirectoryStorage
    _save(data, path)


def _save(data: Dataset, path: Path) -> None:
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.save_as(path, enforce_file_format=True)


def nifti(path: Path, **changes: object) -> None:
    """A NIfTI with canaries in every text of its header, in an extension and in its gzip name."""
    voxels = _noise(12, 10, 8).astype(np.int16)
    image = nib.Nifti1Image(voxels, np.diag([1.0, 1.0, 2.0, 1.0]))
    for field in ("descrip", "aux_file", "db_name", "intent_name", "data_type"):
        image.header[field] = word()[:10] if field == "data_type" else word()
    for field, changed in changes.items():
        image.header[field] = changed
    image.header.extensions.append(Nifti1Extension("comment", word().encode()))
    raw = image.to_bytes()
    with path.open("wb") as stream, gzip.GzipFile(word(), "wb", fileobj=stream) as zipped:
        zipped.write(raw)


def png(path: Path, mode: str = "L") -> None:
    """A PNG with canaries in its text chunks, EXIF and XMP."""
    pixels = _noise(24, 20)
    told = PngImagePlugin.PngInfo()
    told.add_text("Author", word())
    told.add_itxt("Description", word())
    told.add_text("Comment", word(), zip=True)
    exif = Image.Exif()
    exif[0x010E] = exif[0x013B] = word()
    Image.fromarray(pixels).convert(mode).save(path, pnginfo=told, exif=exif)


def others(root: Path) -> None:
    """Everything that is no DICOM image, whole and broken, under names that are canaries."""
    for folder in ("nifti", "pictures", "broken", "names"):
        (root / folder).mkdir()
    names = [f"{word()}.nii.gz" for _ in range(4)]
    for name in names[:3]:
        nifti(root / "nifti" / name)
    nifti(root / "nifti" / names[3], sform_code=0, qform_code=0)
    rows = [["file", "subject", "age"], *([name, word(), "40"] for name in names)]
    _write_csv(root / "nifti" / "subjects.csv", rows)
    (root / "nifti" / names[0].replace("nii.gz", "json")).write_text(
        json.dumps({"PatientName": word(), "AcquisitionTime": word()})
    )
    for mode in ("L", "RGB", "RGBA"):
        png(root / "pictures" / f"{word()}{mode}.png", mode)
    _write_csv(root / "broken" / "subjects.csv", [["file", "mrn"], [f"{word()}.nii.gz", word()]])
    nifti(root / "broken" / f"{word()}.nii.gz")
    (root / "broken" / f"{word()}.dcm").write_text(word())
    (root / "broken" / f"{word()}.nii").write_text(word() * 40)
    (root / "broken" / f"{word()}.nii.gz").write_bytes(gzip.compress(word().encode()))
    (root / "broken" / f"{word()}.npz").write_text(word())
    (root / "names" / "dataset.json").write_text(json.dumps({"training": word(), "name": word()}))
    _write_csv(root / "names" / "labels.csv", [["file", word(), word()], [word(), "1"]])
    png(root / "names" / f"{word()}.png")
    formats(root)
    (root / f"{word()}.txt").write_text(word())
    (root / f"{word()}.pdf").write_bytes(b"%PDF-1.4 " + word().encode())
    (root / f"{word()}_link").symlink_to(root.parent / "nowhere")
    report(root / f"{word()}_report")
    dicomdir(root / "DICOMDIR")


def formats(root: Path) -> None:
    """Pictures, volumes and archives of other formats, with canaries in what they tell."""
    folder = root / f"formats_{word()}"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x010E] = exif[0x013B] = word()
    Image.fromarray(_noise(32, 24)).save(folder / f"{word()}.jpg", exif=exif, comment=word())
    Image.fromarray(_noise(32, 24)).save(folder / f"{word()}.tif", description=word())
    image = SimpleITK.GetImageFromArray(_noise(8, 10, 12))
    image.SetMetaData("PatientName", word())
    for ending in ("mha", "nrrd", "mhd"):
        SimpleITK.WriteImage(image, str(folder / f"{word()}.{ending}"))
    (file,) = itertools.islice(sorted(root.glob("00_*/*")), 1)
    with zipfile.ZipFile(folder / f"{word()}.zip", "w") as archive:
        archive.comment = word().encode()
        archive.write(file, f"{word()}/{word()}.dcm")
        archive.writestr(f"../{word()}", word())
    with tarfile.open(folder / f"{word()}.tar.gz", "w:gz") as archive:
        archive.add(file, f"{word()}/{word()}")


def _write_csv(path: Path, rows: list[list[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)


def sightings(path: Path) -> list[bytes]:
    """Canaries in a file, in its name, and in what it packs."""
    texts = [str(path).encode(), path.read_bytes()]
    if path.suffix == ".gz":
        texts.append(gzip.decompress(texts[1]))
    if path.suffix == ".parquet":
        table = parquet.read_table(path)
        told = io.StringIO(newline="")
        csv.writer(told).writerows(zip(*(c.to_pylist() for c in table.columns), strict=True))
        texts += [told.getvalue().encode(), str(table.schema).encode()]
        texts.append(str(table.schema.metadata).encode())
    return [found.group() for text in texts for found in MARK.finditer(text)]
