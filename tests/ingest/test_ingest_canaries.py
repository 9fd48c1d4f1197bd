"""No canary identifier leaves the input, but into STORE.private."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest

from medssl.store import Store

sys.path.insert(0, str(Path(__file__).parent))
from canaries import MARK, ROOT, WORD, everywhere, others, plant, sightings, word
from damage import DAMAGES, series, write

MEDSSL = [sys.executable, "-c", "from medssl.cli import main; main()"]
# Numbers and codes that the reader checks: each gets a text of an identifier instead of its value.
CHECKED = (
    "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "SliceThickness",
    "SpacingBetweenSlices", "RescaleSlope", "RescaleIntercept", "RescaleType", "InstanceNumber",
    "NumberOfFrames", "GantryDetectorTilt", "EchoTime", "InversionTime", "ImageType", "Modality",
    "PhotometricInterpretation", "SOPClassUID", "FrameOfReferenceUID", "ImagesInAcquisition",
    "StudyDate", "PatientAge", "TransferSyntaxUID",
)  # fmt: skip


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """The command line, in a process of its own."""
    command = [*MEDSSL, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, env=os.environ | environment)


def wrong_value(path: Path, keyword: str) -> None:
    """Write a canary where a number, a code or a UID belongs, past any check of the writer's."""
    data = pydicom.dcmread(path)
    place = data.file_meta if keyword == "TransferSyntaxUID" else data
    syntax = keyword == "TransferSyntaxUID"
    canary = f"{ROOT}.{len(keyword)}" if keyword.endswith("UID") else word()
    if keyword not in place or syntax:
        vr = pydicom.datadict.dictionary_VR(keyword)
        place.add(pydicom.DataElement(keyword, vr if syntax else "LO", canary))
        pydicom.dcmwrite(path, data, implicit_vr=False, little_endian=True)
        return
    with pydicom.config.disable_value_validation():
        place.add(pydicom.DataElement(keyword, "LO", canary))
    data.save_as(path)


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Path:
    """A tree of good and damaged input, full of canaries; its own name is one."""
    root = tmp_path_factory.mktemp("canaries") / f"{word()}_in"
    full = everywhere()
    for number, damage in enumerate(DAMAGES):
        folder = root / f"{number:02d}_{word()}"
        damage.write(folder)
        for file in sorted(folder.iterdir()):
            plant(file, full if number == 0 else _few(full), f"{number + 1}")
            file.rename(folder / f"{word()}_{file.name}")
    for number, keyword in enumerate(CHECKED):
        folder = root / f"wrong_{word()}"
        write(folder, series(range(3)))
        for file in sorted(folder.iterdir()):
            plant(file, _few(full), f"{number + 100}")
            wrong_value(file, keyword)
    others(root)
    return root


def _few(full: pydicom.Dataset) -> pydicom.Dataset:
    """The canaries at the top of the first groups: enough for a damaged file, and quick."""
    return full[0x00080000:0x00110000]


@pytest.fixture(scope="module")
def work(planted, tmp_path_factory):
    """A folder with all that the verbs wrote, and the folder of the private things."""
    work = tmp_path_factory.mktemp("work")
    texts = work / "texts"
    texts.mkdir()

    def keep(name: str, *arguments: object, code: int = 0) -> None:
        done = run(*arguments, MLFLOW_TRACKING_URI=f"sqlite:///{work / 'mlflow.db'}")
        (texts / f"{name}.out").write_bytes(done.stdout)
        (texts / f"{name}.err").write_bytes(done.stderr)
        assert done.returncode == code, (name, done.stderr[-2000:])

    store = work / "store"
    keep("ingest", "ingest", planted, store, code=3)
    everything = ["LOCALIZER", "DERIVED", "SLICES_FEWER_THAN_STATED", "BURNED_IN_TEXT"]
    allow = [word for code in everything for word in ("--allow", code)]
    more = ["--json", "--keep", "sex", "--workers", "1", *allow]
    keep("json", "ingest", planted, work / "store2", *more, code=3)
    keep("again", "ingest", planted, store, code=2)
    keep("inside", "ingest", planted, planted / "store", code=2)
    keep("missing", "ingest", planted / word(), work / "none", code=2)
    for option in ([], ["--volumes", "--json"], ["--files"]):
        keep(f"inspect{'-'.join(option)}", "inspect", store, *option)
    keep("export", "export", store, work / "exported")
    return work


def leaks(work: Path) -> list[tuple[str, bytes]]:
    """Canaries in all files below a folder that are not in a private one."""
    return [
        (str(path.relative_to(work)), found)
        for path in sorted(work.rglob("*"))
        if path.is_file() and not any(part.endswith(".private") for part in path.parts)
        for found in sightings(path)[:3]
    ]


def test_the_search_finds_canaries(planted, work):
    """Else the other tests could not fail."""
    full = next(path for path in sorted(planted.rglob("*")) if path.is_file())
    assert len(MARK.findall(full.read_bytes())) > 4000
    for text in (WORD.encode("utf-16"), WORD.lower().encode(), f"{ROOT}.5".encode(),
                 b"2090-01-02", b"20990228", b"131415.7771", b"7770123.25"):  # fmt: skip
        assert MARK.search(b"x " + text)
    assert not MARK.search(b"ab20900102ff vol-20990228aa")
    ledger = work / "store.private" / "ledger.csv"
    assert MARK.search(ledger.read_bytes())


def test_the_input_is_read_and_refused_in_many_ways(work):
    """Else there would be nothing to leak."""
    store = Store.open(work / "store")
    assert len(store) > 15
    sources = {"dicom", "nifti", "metaimage", "png", "jpeg", "tiff"}
    assert set(store.manifest["source"]) == sources
    codes = set(store.ledger["code"])
    assert len(codes) > 18, sorted(codes)
    assert set(store.manifest["study_date"].str[:3]) <= {"", "204", "205"}
    assert set(store.manifest["description"]) == {""}
    assert json.loads((work / "texts" / "json.out").read_bytes())["found"] == len(store.ledger)


def test_no_canary_is_written_or_told(work):
    assert leaks(work) == []


@pytest.mark.data
def test_no_canary_of_real_scanners_is_written_or_told(tmp_path, data_root):
    """Enhanced images, mosaics and their private blocks."""
    full, source = everywhere(), tmp_path / "in"
    folders = ("enhanced/Philips", "mosaic/ax/axint35", "vendors/philips_enhanced/anatomical/001")
    for number, name in enumerate(folders):
        folder = source / f"{number}_{word()}"
        shutil.copytree(data_root / "dicom" / name, folder)
        for file in sorted(folder.iterdir()):
            if b"DICM" in file.read_bytes()[:132]:
                plant(file, full, f"{number + 1}")
    out = tmp_path / "out"
    out.mkdir()
    done = run("ingest", source, out / "store", "--json")
    (out / "told").write_bytes(done.stdout + done.stderr)
    assert len(Store.open(out / "store")) >= 3
    assert leaks(out) == []


@pytest.mark.slow
def test_no_canary_reaches_a_run_or_mlflow(work):
    done = run(
        "pretrain", work / "store", work / "run", "--method", "mae", "steps=2", "batch_size=2",
        "device=cpu", "encoder_options.widths=[4,8]", "patch_size=[8,8,8]", "workers=0",
        MLFLOW_TRACKING_URI=f"sqlite:///{work / 'mlflow.db'}",
    )  # fmt: skip
    (work / "texts" / "pretrain").write_bytes(done.stdout + done.stderr)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (work / "mlflow.db").stat().st_size > 0
    assert leaks(work) == []
