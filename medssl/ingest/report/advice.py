"""What to do about a refusal, by its code."""

from __future__ import annotations

from medssl.ingest.allowable import ALLOWABLE

_AGAIN = "Fetch the series again from the archive; the copy seems incomplete."
_SCANNER = "Ask the site for the original series, or leave it out."
_CONVERT = "Convert it to a format that is read, or leave it out."

ADVICE: dict[str, str] = {
    "FILE_UNREADABLE": "Copy the file again, and check the disk and its permissions.",
    "FILE_TRUNCATED": "Copy the file again; the transfer broke off.",
    "FORMAT_UNSUPPORTED": _CONVERT,
    "DUPLICATE_CONFLICT": "Find out which copy is right, and remove the other.",
    "SUBJECT_UNKNOWN": "Send the series again with a Patient ID, or list it in a subjects table.",
    "LABEL_WITHOUT_IMAGE": "Put the image beside the label map, under the same name.",
    "ARCHIVE_INVALID": "Store the arrays under the names of a MedMNIST set.",
    "READER_FAILED": "Read it alone with more memory; if it fails again, report it.",
    "DECODER_MISSING": "Install `medssl[jpeg]`, or have the archive send it uncompressed.",
    "DECODE_FAILED": "Copy the file again, or have the archive send it uncompressed.",
    "COLOUR_UNSUPPORTED": "Leave it out.",
    "MODALITY_UNSUPPORTED": "Leave it out.",
    "DICOM_TAG_MISSING": _SCANNER,
    "DICOM_TAG_INVALID": _SCANNER,
    "LOCALIZER": "Nothing: localizers are not to be trained on.",
    "DERIVED": "Nothing: it was computed from a series that should be there itself.",
    "PIXELS_TOO_LARGE": "Check where the file comes from; its header cannot be right.",
    "SLICE_MISSING": _AGAIN,
    "SLICE_DUPLICATE": "Look whether two reconstructions share a series, and send them apart.",
    "SLICES_FEWER_THAN_STATED": _AGAIN,
    "SLICES_FEWER_THAN_SIBLING": _AGAIN,
    "SPACING_UNEVEN": "Fetch the series again; if it was made so, leave it out.",
    "SPACING_INVALID": _SCANNER,
    "SPACING_UNKNOWN": "Send the series from the archive with its tags; without, leave it out.",
    "SERIES_MIXED": "Ask the site: images of different origin carry one series UID.",
    "AFFINE_INVALID": "Convert it again from the DICOM series.",
    "AFFINE_AMBIGUOUS": "Convert it again from the DICOM series, with one geometry.",
    "VOXELS_INVALID": "Make it again without NaN or infinity.",
    "VOLUME_EMPTY": "Look at it with a viewer; it shows nothing.",
    "LABEL_GRID_MISMATCH": "Resample the label map to its image, nearest neighbour.",
    "LABEL_INVALID": "Write the label map as whole numbers from 0.",
    "TABLE_INVALID": "Correct the table; `medssl` names the row.",
    "TIME_SERIES_UNSUPPORTED": "Split it into volumes, and ingest those.",
}


def advice(code: str) -> str:
    """One or two sentences; "" where nothing general can be said."""
    words = ADVICE.get(code, "")
    if code in ALLOWABLE:
        words = f"{words} To take it as it is: `--allow {code}`.".strip()
    return words
