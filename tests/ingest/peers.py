"""What other readers make of a folder: ``python peers.py NAME ROOT`` prints a JSON line for each of
ROOT's folders, with the volumes that were made, as files in ROOT/../NAME."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

MEMORY = 6 * 2**30


def dcm2niix(folder: Path, out: Path) -> None:
    program = Path(sys.executable).with_name("dcm2niix")
    subprocess.run(
        [program, "-z", "n", "-b", "n", "-f", "%p_%s", "-o", out, folder],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip


def dicom2nifti(folder: Path, out: Path) -> None:
    from dicom2nifti import convert_directory

    convert_directory(str(folder), str(out), compression=False, reorient=False)


def simpleitk(folder: Path, out: Path) -> None:
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    for number, uid in enumerate(sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))):
        names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid)
        sitk.WriteImage(sitk.ReadImage(names), str(out / f"{number}.nii"))


def monai(folder: Path, out: Path) -> None:
    import nibabel as nib
    import numpy as np
    from monai.transforms import LoadImage

    image = LoadImage(reader="PydicomReader", image_only=True)(str(folder))
    nib.save(nib.Nifti1Image(np.asarray(image, np.float32), image.affine.numpy()), out / "0.nii")


PEERS: dict[str, Callable[[Path, Path], None]] = {
    "dcm2niix": dcm2niix,
    "dicom2nifti": dicom2nifti,
    "SimpleITK": simpleitk,
    "MONAI": monai,
}


def main(name: str, root: Path) -> None:
    warnings.simplefilter("ignore")
    if name == "MONAI":
        import monai.transforms  # noqa: F401  before memory is limited
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        out = root.parent / name / folder.name
        out.mkdir(parents=True)
        error = ""
        try:
            PEERS[name](folder, out)
        # whatever a peer raises is its answer
        except BaseException as raised:
            error = type(raised).__name__
        print(json.dumps({"folder": folder.name, "error": error}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
