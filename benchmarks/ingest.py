"""How long reading a tree of DICOM takes: medssl beside other readers, and floors.

Every reader gets the same made-up tree and runs as a whole command, start-up included, in turn with
the others, several times; the fastest run of each counts. The rows of one file say what start-up
alone takes; from the second round on Python has the bytecode of all modules, as of an installed
package. Only ratios mean something on a machine that others share.

    python benchmarks/ingest.py --series 5 --slices 520 --rounds 3
    python benchmarks/ingest.py --series 50 --only dcm2niix --only "medssl, 2 workers"
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import pydicom
import typer
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

FLOORS = {
    "start Python and NumPy": "import numpy",
    "read the bytes": "for f in files: open(f, 'rb').read()",
    "parse the headers": "import pydicom\n"
    "for f in files: pydicom.dcmread(f, stop_before_pixels=True)",
}
PEERS = {
    "dicom2nifti": "import dicom2nifti\n"
    "dicom2nifti.convert_directory(root, out, compression=False, reorient=False)",
    "SimpleITK": "import SimpleITK as sitk\n"
    "for s in sorted({os.path.dirname(f) for f in files}):\n"
    "    n = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(s)\n"
    "    sitk.WriteImage(sitk.ReadImage(n), os.path.join(out, os.path.basename(s) + '.nii'))",
    "monai": "from monai.transforms import LoadImage, SaveImage\n"
    "load = LoadImage(reader='PydicomReader', image_only=True)\n"
    "save = SaveImage(output_dir=out, output_ext='.nii', print_log=False)\n"
    "for s in sorted({os.path.dirname(f) for f in files}): save(load(s)[None])",
}
ONE = ", one file"
_START = (
    "import os, sys\nroot, out = sys.argv[1:]\n"
    "files = [os.path.join(d, f) for d, _, names in os.walk(root) for f in names]\n"
)


def make_tree(root: Path, series: int, slices: int, side: int) -> None:
    """CT series of noise, each a patient and a folder of its own."""
    rng = np.random.default_rng(0)
    for number in range(series):
        folder = root / f"series{number}"
        folder.mkdir(parents=True)
        for k in range(slices):
            pixels = rng.integers(-1000, 1000, (side, side)).astype("<i2")
            one_slice(number, k, pixels).save_as(folder / f"{k:04d}.dcm", enforce_file_format=True)


def one_slice(series: int, k: int, pixels: np.ndarray) -> pydicom.Dataset:
    """Slice k of a series."""
    data = pydicom.Dataset()
    uid = f"1.2.826.0.1.3680043.8.498.{series + 1}"
    data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, f"{uid}.3.{k + 1}"
    data.StudyInstanceUID, data.SeriesInstanceUID = f"{uid}.1", f"{uid}.2"
    data.FrameOfReferenceUID, data.PatientID = f"{uid}.4", f"P{series}"
    data.PatientName, data.Modality = f"P{series}", "CT"
    data.ImageType, data.Manufacturer = ["ORIGINAL", "PRIMARY", "AXIAL"], "phantom"
    data.StudyDate, data.StudyTime, data.AcquisitionTime = "20200101", "120000", "120000"
    data.SeriesNumber, data.InstanceNumber, data.AcquisitionNumber = series + 1, k + 1, 1
    data.SeriesDescription, data.PatientPosition = f"s{series}", "HFS"
    data.Rows, data.Columns = pixels.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
    data.RescaleSlope, data.RescaleIntercept = "1", "0"
    data.PixelSpacing, data.SliceThickness = [0.8, 0.8], 1.5
    data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    data.ImagePositionPatient = [0.0, 0.0, 1.5 * k]
    data.PixelData = pixels.tobytes()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return data


def commands(root: Path, out: Path) -> dict[str, list[str]]:
    """What each contestant runs; those that are not installed are left out."""
    bin_folder = Path(sys.executable).parent
    peers = {name: text for name, text in PEERS.items() if importlib.util.find_spec(name)}
    found = {
        name: [sys.executable, "-c", _START + text, str(root), str(out)]
        for name, text in (FLOORS | peers).items()
    }
    program = bin_folder / "dcm2niix"
    if program.exists():
        found["dcm2niix"] = [str(program), "-z", "n", "-b", "n", "-o", str(out), str(root)]
    start = "from medssl.cli import main; main()"
    for workers in (1, 2):
        verb = ["ingest", str(root), str(out / "store"), "--workers", str(workers)]
        found[f"medssl, {workers} workers"] = [sys.executable, "-c", start, *verb]
    return found


def seconds_of(command: list[str], out: Path) -> float:
    """Wall time of one run into an empty folder."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    keeps_bytecode = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=keeps_bytecode)
    return time.perf_counter() - started


def main(
    series: Annotated[int, typer.Option(help="Series in the tree.")] = 5,
    slices: Annotated[int, typer.Option(help="Slices of each.")] = 520,
    side: Annotated[int, typer.Option(help="Rows and columns.")] = 128,
    rounds: Annotated[int, typer.Option(help="Runs of each reader.")] = 3,
    only: Annotated[list[str] | None, typer.Option(help="Run this reader; all by default.")] = None,
) -> None:
    """Print a table of seconds and ratios."""
    with tempfile.TemporaryDirectory() as scratch:
        root, single, out = (Path(scratch) / name for name in ("in", "single", "out"))
        make_tree(root, series, slices, side)
        make_tree(single, 1, 1, side)
        runs = commands(root, out)
        alone = commands(single, out)
        for name in ("dcm2niix", "medssl, 2 workers"):
            if name in alone:
                runs[name + ONE] = alone[name]
        if only:
            runs = {name: run for name, run in runs.items() if name.removesuffix(ONE) in only}
        best = dict.fromkeys(runs, float("inf"))
        for _ in range(rounds):
            for name, command in runs.items():
                best[name] = min(best[name], seconds_of(command, out))
    base = best.get("dcm2niix", min(best.values()))
    print(f"{series * slices} files, {series} series of {side} x {side}; best of {rounds}\n")
    print("| reader | seconds | to dcm2niix |\n| --- | --- | --- |")
    for name, seconds in sorted(best.items(), key=lambda item: item[1]):
        print(f"| {name} | {seconds:.2f} | {seconds / base:.2f} |")


if __name__ == "__main__":
    typer.run(main)
