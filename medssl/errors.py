"""The error type of medssl and its code words.

Every expected failure is a :class:`MedsslError` with a stable code, one sentence of what is wrong,
where, and what to do. The same codes stand in the ledger. ``docs/reference/errors.md`` is made
from :data:`CODES`. No error text may hold a patient's identifiers.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Exit(IntEnum):
    """Process exit codes."""

    DONE = 0
    BUG = 1
    USAGE = 2
    SOME_REJECTED = 3
    NOTHING_USABLE = 4
    OUT_OF_RESOURCES = 5
    INTEGRITY = 6
    STOPPED = 7


@dataclass(frozen=True)
class Code:
    """One code word: the exit code of a verb that ends with it, and its meaning."""

    exit_code: Exit
    meaning: str


_USAGE, _NONE, _FULL, _BROKEN = (
    Exit.USAGE,
    Exit.NOTHING_USABLE,
    Exit.OUT_OF_RESOURCES,
    Exit.INTEGRITY,
)
_REJECT = Exit.SOME_REJECTED

CODES: dict[str, Code] = {
    # usage and configuration
    "CONFIG_UNKNOWN_KEY": Code(_USAGE, "A configuration key does not exist."),
    "CONFIG_INVALID": Code(_USAGE, "A configuration value is not allowed."),
    "CONFIG_UNREADABLE": Code(_USAGE, "A configuration file could not be read as YAML."),
    "INPUT_MISSING": Code(_USAGE, "The input file or folder does not exist."),
    "KEY_INVALID": Code(_USAGE, "The site key is missing or is not 64 hex digits."),
    "INGEST_RUNNING": Code(_USAGE, "Another ingest is making the same store."),
    "PRIVATE_MISSING": Code(_USAGE, "The private ledger of the store is not beside it."),
    "SCHEDULER_UNAVAILABLE": Code(_USAGE, "The Dask scheduler or its workers cannot be used."),
    "KEY_MISMATCH": Code(_USAGE, "The site key is not the one that made these pseudonyms."),
    "STORE_INSIDE_INPUT": Code(_USAGE, "The store would lie inside the input folder."),
    "OUT_EXISTS": Code(_USAGE, "The output already exists; medssl never overwrites."),
    "METHOD_UNKNOWN": Code(_USAGE, "No method has that name."),
    "ENCODER_UNKNOWN": Code(_USAGE, "No encoder has that name."),
    "LABEL_MISSING": Code(_USAGE, "The store has no such label, or no label at all."),
    "LABELS_TOO_FEW": Code(_USAGE, "Fewer labelled subjects than asked for or needed."),
    "TRANSFER_TOO_LITTLE": Code(
        _USAGE, "Too few of the bundle's encoder weights fit the model to be fine-tuned."
    ),
    "CONTRACT_MISMATCH": Code(_USAGE, "The input does not fit the bundle's input contract."),
    "POINT_OUTSIDE": Code(_USAGE, "The point lies outside of the scan."),
    "LABEL_UNSTATED": Code(
        _USAGE, "Some label maps state what they were annotated for, and others do not."
    ),
    "RESUME_MISMATCH": Code(_USAGE, "The run to resume was made with another configuration."),
    "DEVICE_MISSING": Code(_USAGE, "The device asked for is not on this machine."),
    "RESOURCE_MISSING": Code(_USAGE, "A file that comes with medssl was not found."),
    "CODE_NOT_ALLOWABLE": Code(_USAGE, "No such defect can be accepted with --allow."),
    "RESULTS_INVALID": Code(_USAGE, "The folder is not a results folder of medssl predict."),
    "VERDICT_INVALID": Code(_USAGE, "A verdict lacks a reviewer's name or a known decision."),
    "VERDICTS_UNAVAILABLE": Code(_USAGE, "The verdicts database cannot be opened or written."),
    "PORT_UNAVAILABLE": Code(_USAGE, "The review app cannot listen on that address and port."),
    # store and bundle
    "STORE_EXISTS": Code(_USAGE, "The store already exists; medssl never overwrites one."),
    "STORE_INVALID": Code(_BROKEN, "The folder is not a store, or a part of it is missing."),
    "STORE_FORMAT": Code(_USAGE, "The store was written in a format this version cannot read."),
    "STORE_CORRUPT": Code(_BROKEN, "An array of the store does not have its recorded hash."),
    "SPLIT_EXISTS": Code(_USAGE, "The store already has a split of that name."),
    "SPLIT_UNKNOWN": Code(_USAGE, "The store has no split of that name."),
    "SPLIT_INVALID": Code(_BROKEN, "A split of the store is damaged."),
    "SPLIT_OUTDATED": Code(_USAGE, "The store has subjects that its split does not place."),
    "SPLIT_STATED": Code(_USAGE, "The tables of the data state splits that this would contradict."),
    "SPLIT_COLUMN_MISSING": Code(
        _USAGE, "The manifest lacks the column to divide by, or values in it."
    ),
    "VOLUME_UNKNOWN": Code(_USAGE, "The store has no volume of that name."),
    "LEDGER_MISMATCH": Code(_BROKEN, "The ledger does not account for every file found."),
    "BUNDLE_INVALID": Code(_BROKEN, "The folder is not a bundle, or a part of it is missing."),
    "BUNDLE_FORMAT": Code(_USAGE, "The bundle was written in a format this version cannot read."),
    "BUNDLE_CORRUPT": Code(_BROKEN, "The bundle's weights do not have their recorded hash."),
    "EMBEDDING_MISSING": Code(_USAGE, "The bundle has no embedding of places in the body."),
    "CHECKPOINT_CORRUPT": Code(_BROKEN, "No intact checkpoint was found to resume from."),
    "SUBJECT_LEAK": Code(
        _BROKEN, "A test subject was seen in training, or one subject lies on two sides of a split."
    ),
    # resources and training
    "DISK_FULL": Code(_FULL, "The disk is full."),
    "OUT_OF_MEMORY": Code(_FULL, "Memory ran out."),
    "WORKER_LOST": Code(_FULL, "A process that reads crops was killed or failed."),
    "TRAINING_DIVERGED": Code(_BROKEN, "The loss became NaN or infinite."),
    "RUN_STOPPED": Code(
        Exit.STOPPED, "A signal asked the run to stop; its checkpoint is written, --resume goes on."
    ),
    "TRAINING_COLLAPSED": Code(
        _BROKEN, "All images got the same features, or nothing was learned."
    ),
    "NOTHING_USABLE": Code(_NONE, "No input could be used."),
    # what ingest and predict reject, file by file
    "FILE_UNREADABLE": Code(_REJECT, "The file could not be read."),
    "FILE_TRUNCATED": Code(_REJECT, "The file ends before its data do."),
    "FORMAT_UNSUPPORTED": Code(_REJECT, "An image or archive format that is not read yet."),
    "NOT_AN_IMAGE": Code(
        _REJECT, "No image and no table of medssl, such as a report or a text; ignored."
    ),
    "LINK_NOT_FOLLOWED": Code(_REJECT, "A symbolic link out of the input or to a folder; ignored."),
    "DUPLICATE": Code(_REJECT, "The same image was already read; it is used once."),
    "DUPLICATE_CONFLICT": Code(
        _REJECT, "The same image is there twice with different voxels, subject or labels."
    ),
    "SUBJECT_UNKNOWN": Code(_REJECT, "The subject of the image is not stated."),
    "LABEL_WITHOUT_IMAGE": Code(_REJECT, "A label map or label object has no image."),
    "LABEL_AMBIGUOUS": Code(
        _REJECT,
        "It is not certain which image a label map or object belongs to, or an image has several.",
    ),
    "LABEL_UNWANTED": Code(_REJECT, "A label object has no structure asked for; ignored."),
    "LABEL_OVERLAP": Code(_REJECT, "Structures of a volume overlap in a voxel; can be allowed."),
    "DATA_FILE_MISSING": Code(
        _REJECT, "The file with the voxels that a header names is not there, or not its own."
    ),
    "ARCHIVE_UNSAFE": Code(
        _REJECT,
        "An archive has names that lead out of it, or one name twice; nothing of it is read.",
    ),
    "ARCHIVE_TOO_LARGE": Code(
        _REJECT, "An archive unpacks to more than is plausible or fits; nothing of it is read."
    ),
    "ARCHIVE_ENCRYPTED": Code(_REJECT, "An archive is encrypted; unpack it first."),
    "ARCHIVE_INVALID": Code(_REJECT, "The .npz does not have the arrays of a MedMNIST set."),
    "READER_FAILED": Code(
        _REJECT, "Reading a series crashed, took too long or too much memory; the rest went on."
    ),
    "DECODER_MISSING": Code(_REJECT, "No decoder for this transfer syntax is installed."),
    "DECODE_FAILED": Code(_REJECT, "The pixel data could not be decoded."),
    "DICOM_TAG_MISSING": Code(_REJECT, "A DICOM attribute that geometry or pixels need is absent."),
    "DICOM_TAG_INVALID": Code(_REJECT, "A DICOM attribute has a value that cannot be right."),
    "MODALITY_UNSUPPORTED": Code(_REJECT, "This modality or object class is not read yet."),
    "ENHANCED_UNSUPPORTED": Code(_REJECT, "Enhanced multi-frame DICOM is not predicted on yet."),
    "MOSAIC_UNSUPPORTED": Code(
        _REJECT, "A mosaic whose layout is not certain; predict takes no mosaics yet."
    ),
    "COLOUR_UNSUPPORTED": Code(
        _REJECT, "A colour image that is no picture, or colours stored in a way not read yet."
    ),
    "TIME_SERIES_UNSUPPORTED": Code(
        _REJECT,
        "Several volumes in one that nothing tells apart, or where one is needed.",
    ),
    "LOCALIZER": Code(_REJECT, "A localizer or scout, not one to train on; can be allowed."),
    "DERIVED": Code(
        _REJECT, "A projection, a saved screen or a secondary capture; can be allowed."
    ),
    "BURNED_IN_TEXT": Code(
        _REJECT, "The image seems to hold text, which may name the patient; can be allowed."
    ),
    "PIXELS_TOO_LARGE": Code(
        _REJECT, "The header asks for more pixels than the compressed data can plausibly hold."
    ),
    "PIXEL_FORMAT_UNSUPPORTED": Code(_REJECT, "The stored pixel format is not read yet."),
    "SLICE_MISSING": Code(_REJECT, "A slice is missing between two others."),
    "SLICE_DUPLICATE": Code(_REJECT, "Two slices lie at the same position."),
    "SLICES_FEWER_THAN_STATED": Code(
        _REJECT, "The header states more slices than are there; can be allowed."
    ),
    "SLICES_FEWER_THAN_SIBLING": Code(
        _REJECT, "Another series of the study has the same slices and more; can be allowed."
    ),
    "SPACING_UNEVEN": Code(
        _REJECT, "The distance between slices is not constant; resampling them can be allowed."
    ),
    "SPACING_INVALID": Code(_REJECT, "A pixel or slice spacing is zero, negative or not a number."),
    "SPACING_UNKNOWN": Code(
        _REJECT, "The spacing cannot be known; can be allowed of radiographs, pictures do without."
    ),
    "GANTRY_TILT": Code(
        _REJECT, "A tilt that is not certain, or that predict does not take; can be allowed."
    ),
    "ORIENTATION_MIXED": Code(_REJECT, "The slices of one series do not share an orientation."),
    "ORIENTATION_INVALID": Code(_REJECT, "The orientation vectors are not orthonormal."),
    "SHAPE_MIXED": Code(_REJECT, "The slices of one series do not share a size."),
    "SERIES_MIXED": Code(_REJECT, "One series UID covers several patients, frames or kinds."),
    "AFFINE_INVALID": Code(_REJECT, "The affine is singular, sheared or absent."),
    "AFFINE_AMBIGUOUS": Code(_REJECT, "The header states two different geometries."),
    "VOXELS_INVALID": Code(_REJECT, "The voxels hold NaN or infinite values."),
    "VOLUME_EMPTY": Code(_REJECT, "The image has no voxels, or all of one value."),
    "LABEL_GRID_MISMATCH": Code(
        _REJECT, "A label map or label object does not lie on its image's grid."
    ),
    "LABEL_INVALID": Code(
        _REJECT, "A label map, a segment, a contour or their names cannot be used."
    ),
    "FACE_NOT_REMOVED": Code(
        _REJECT, "With --deface: a face that may be there could not be removed; can be allowed."
    ),
    "TABLE_INVALID": Code(_USAGE, "A subjects or labels table could not be used."),
    "SEG_NOT_WRITTEN": Code(
        _REJECT, "Written as NIfTI only: the series lacks what a DICOM SEG must repeat."
    ),
    "CASE_FAILED": Code(_REJECT, "A case failed in a way medssl did not expect; the rest went on."),
    "PREDICTION_MOVED": Code(
        _BROKEN, "A written segmentation, read again, does not lie where it was predicted."
    ),
}


class MedsslError(Exception):
    """An expected failure.

    Args:
        code: a key of :data:`CODES`; any other raises ``KeyError``.
        what: one sentence of what is wrong, without identifiers.
        where: the place (a configuration key, a pseudonymous id, an option), may be empty.
        fix: what the user can do, may be empty.
    """

    def __init__(self, code: str, what: str, *, where: str = "", fix: str = "") -> None:
        self.exit_code = CODES[code].exit_code
        self.code, self.what, self.where, self.fix = code, what, where, fix
        super().__init__(code, what, where, fix)

    def __str__(self) -> str:
        place = f" ({self.where})" if self.where else ""
        advice = f" {self.fix}" if self.fix else ""
        return f"{self.code}: {self.what.rstrip('.')}{place}.{advice}"
