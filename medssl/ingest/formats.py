"""One way to read every image that is no DICOM: a kind and its files in, images out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import MedsslError
from medssl.ingest.jobs import Picture
from medssl.ingest.metaimage import parse_metaimage
from medssl.ingest.nifti import read_nifti, read_nifti_volumes
from medssl.ingest.nrrd import parse_nrrd
from medssl.ingest.pictures import read_picture
from medssl.ingest.plainvolume import VolumeHeader, header_bytes, read_voxels
from medssl.ingest.scan import PICTURES, Kind

Array = npt.NDArray[Any]


def read_images(kind: Kind, files: Sequence[Path], channels: int = 0) -> Iterator[Picture]:
    """Every image of one file.

    Args:
        kind: one of ``IMAGE_KINDS``.
        files: the file, or a header and the file with its voxels.
        channels: how many kinds of image a table says a 4D file holds; 0 where none does, and
            the fourth dimension is time, as NIfTI defines it.

    Raises:
        MedsslError: what the readers of the formats raise; LABEL_WITHOUT_IMAGE for a label map
            that says it is one.
    """
    if kind in PICTURES:
        yield from _pages(read_picture(files[0], kind.value))
    elif kind in (Kind.NRRD, Kind.METAIMAGE):
        header = _header(kind, files)
        if header.segmentation:
            raise MedsslError("LABEL_WITHOUT_IMAGE", "A segmentation, not an image")
        yield Picture(*read_voxels(header, files[-1]))
    else:
        yield from _volumes(files, channels)


def read_label(kind: Kind, files: Sequence[Path]) -> tuple[Array, Array | None]:
    """The label map of one file: its array, channel first, and its affine.

    Raises:
        MedsslError: as :func:`read_images`, and TIME_SERIES_UNSUPPORTED where it holds several.
    """
    if kind in PICTURES:
        return read_picture(files[0], kind.value, label=True)[0], None
    if kind in (Kind.NRRD, Kind.METAIMAGE):
        return read_voxels(_header(kind, files), files[-1])
    return read_nifti(files[0], *files[1:])


def _header(kind: Kind, files: Sequence[Path]) -> VolumeHeader:
    head = header_bytes(files[0])
    header = parse_nrrd(head) if kind is Kind.NRRD else parse_metaimage(head)
    if (header.data_file is None) != (len(files) == 1):
        raise MedsslError("DATA_FILE_MISSING", "The file with the voxels is not there")
    return header


def _pages(pages: Sequence[Array]) -> Iterator[Picture]:
    if len(pages) == 1:
        yield Picture(pages[0], None)
        return
    digest = hashlib.sha256(str([page.shape for page in pages]).encode())
    for page in pages:
        digest.update(np.ascontiguousarray(page).tobytes())
    for number, page in enumerate(pages, 1):
        name = f"page={number}/{len(pages)}"
        yield Picture(page, None, part=name, whole=digest.hexdigest())


def _volumes(files: Sequence[Path], channels: int) -> Iterator[Picture]:
    volumes = read_nifti_volumes(files[0], *files[1:])
    count = volumes.count
    if channels > 1 and count != channels:
        raise MedsslError(
            "TIME_SERIES_UNSUPPORTED", f"{count} volumes, where the table states {channels}"
        )
    if count == 1:
        yield Picture(volumes.volume(0), volumes.affine)
        return
    name, whole = "channel" if channels > 1 else "time", volumes.digest()
    for number in range(count):
        part = f"{name}={number + 1}/{count}"
        yield Picture(volumes.volume(number), volumes.affine, part=part, whole=whole)
