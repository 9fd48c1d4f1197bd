"""Write a phantom as one classic single-frame DICOM series, CT or MR.

CT Image Storage: DICOM PS3.3 A.3; MR Image Storage: PS3.3 A.4; the plane: PS3.3 C.7.6.2. All UIDs
follow from the patient and its seed, so the same phantom is the same series.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)

from medssl.phantom.patient import Phantom

CT_INTERCEPT = -1024
_DATE, _TIME = "20200101", "120000"
_LPS = np.diag([-1.0, -1.0, 1.0])


def write_series(phantom: Phantom, out: Path) -> list[Path]:
    """Write one file per slice of `phantom` below `out`/PATIENT_ID/SERIES, feet first.

    CT is stored as unsigned 16 bit with RescaleIntercept -1024 (so HU from -1024), MR as unsigned
    16 bit as it is. Rows run from front to back, columns from the patient's right to left. The
    name, ID and dates are fictional. Returns the files. Raises ValueError for voxels that do not
    fit 16 bits, FileExistsError where the series is there already.
    """
    folder = out / phantom.patient_id / f"{phantom.modality}_001"
    folder.mkdir(parents=True)
    intercept = CT_INTERCEPT if phantom.modality == "CT" else 0
    stored = phantom.image[0].astype(np.int32) - intercept
    if stored.min() < 0 or stored.max() > np.iinfo(np.uint16).max:
        raise ValueError("the voxels do not fit unsigned 16 bits")
    pixels = np.ascontiguousarray(stored[::-1, ::-1].transpose(2, 1, 0).astype(np.uint16))
    files = []
    for index in range(len(pixels)):
        path = folder / f"IM{index + 1:04d}.dcm"
        data = _slice(phantom, index, pixels)
        data.save_as(path, enforce_file_format=True)
        files.append(path)
    return files


def series_uid(phantom: Phantom) -> str:
    """The SeriesInstanceUID that `write_series` gives this phantom."""
    return _uid(phantom, "series")


def _uid(phantom: Phantom, *parts: object) -> str:
    words = [phantom.patient_id, str(phantom.seed), str(phantom.image.shape)]
    return str(generate_uid(entropy_srcs=[*words, *(str(part) for part in parts)]))


def _slice(phantom: Phantom, index: int, pixels: NDArray[np.uint16]) -> Dataset:
    data = _patient_and_series(phantom)
    data.SOPInstanceUID = _uid(phantom, "instance", index)
    data.file_meta = FileMetaDataset()
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.InstanceNumber = index + 1
    _plane(data, phantom, index)
    frame = pixels[index]
    data.Rows, data.Columns = frame.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
    data.PixelData = frame.tobytes()
    return data


def _patient_and_series(phantom: Phantom) -> Dataset:
    data = Dataset()
    kind, number = phantom.patient_id[8:9], phantom.patient_id[9:]
    data.PatientName = f"Phantom^{'Torso' if kind == 'T' else 'Head'} {number}"
    data.PatientID, data.PatientSex, data.PatientBirthDate = phantom.patient_id, "O", "19700101"
    data.Modality, data.Manufacturer = phantom.modality, "medssl phantom"
    data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL" if phantom.modality == "CT" else "M"]
    data.StudyDate = data.SeriesDate = data.AcquisitionDate = data.ContentDate = _DATE
    data.StudyTime = data.SeriesTime = data.AcquisitionTime = data.ContentTime = _TIME
    data.StudyInstanceUID = _uid(phantom, "study")
    data.SeriesInstanceUID = series_uid(phantom)
    data.FrameOfReferenceUID = _uid(phantom, "frame of reference")
    data.StudyID, data.SeriesNumber, data.AcquisitionNumber = "1", 1, 1
    data.AccessionNumber = data.ReferringPhysicianName = data.PositionReferenceIndicator = ""
    data.BodyPartExamined, data.PatientPosition = phantom.body_part, "HFS"
    data.SeriesDescription = f"Phantom {phantom.body_part.lower()}"
    if phantom.modality == "CT":
        data.SOPClassUID = CTImageStorage
        data.RescaleIntercept, data.RescaleSlope, data.RescaleType = CT_INTERCEPT, 1, "HU"
        data.KVP, data.WindowCenter, data.WindowWidth = 120, 40, 400
    else:
        data.SOPClassUID = MRImageStorage
        data.ScanningSequence, data.SequenceVariant, data.ScanOptions = "GR", "MP", ""
        data.MRAcquisitionType, data.EchoTrainLength = "3D", 1
        data.RepetitionTime, data.EchoTime, data.InversionTime, data.FlipAngle = 2000, 3, 900, 8
    return data


def _plane(data: Dataset, phantom: Phantom, index: int) -> None:
    """Position, orientation and spacing of one slice, from the affine turned to LPS+."""
    nx, ny, _ = phantom.image.shape[1:]
    turned = _LPS @ phantom.affine[:3]
    step_x, step_y, step_z = phantom.spacing
    corner = turned @ np.array([nx - 1, ny - 1, index, 1.0])
    along_row, along_column = -turned[:, 0] / step_x, -turned[:, 1] / step_y
    normal = np.cross(along_row, along_column)
    data.ImagePositionPatient = [f"{value:.8g}" for value in corner]
    data.ImageOrientationPatient = [f"{value:.9f}" for value in (*along_row, *along_column)]
    data.PixelSpacing = [f"{step_y:.8g}", f"{step_x:.8g}"]
    data.SliceThickness = data.SpacingBetweenSlices = f"{step_z:.8g}"
    data.SliceLocation = f"{corner @ normal:.8g}"
