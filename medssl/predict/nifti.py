"""NIfTI out on the input's own grid: same shape, same sform and qform to the bit, nothing else.

Of the input's header only the geometry is kept. The free-text fields and extensions can hold
names, dates and whole DICOM headers, and are left behind.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

_GEOMETRY = (
    "qform_code",
    "sform_code",
    "quatern_b",
    "quatern_c",
    "quatern_d",
    "qoffset_x",
    "qoffset_y",
    "qoffset_z",
    "srow_x",
    "srow_y",
    "srow_z",
)
_SCANNER = 1  # xform code: scanner-anatomical coordinates
# Integer types of NIfTI that other readers know well, narrowest first.
_INTEGERS = (np.uint8, np.int16, np.uint16, np.int32)


@dataclass(frozen=True)
class NiftiGrid:
    """Where the voxels of an image lie.

    Attributes:
        header: a nibabel header (NIfTI-1 or NIfTI-2) that holds nothing but geometry.
        shape: (x, y, z); z is 1 for an image of one slice.
    """

    header: Any
    shape: tuple[int, int, int]

    @property
    def affine(self) -> npt.NDArray[np.float64]:
        """4x4, voxel to RAS mm, as nibabel and other readers will see it."""
        return np.asarray(self.header.get_best_affine(), np.float64)


def nifti_grid(path: Path) -> NiftiGrid:
    """The grid of a NIfTI file that `medssl.ingest.nifti.read_nifti` has accepted."""
    source = _read_header(path)
    header = type(source)()
    for name in _GEOMETRY:
        header[name] = source[name]
    header["pixdim"][:4] = source["pixdim"][:4]
    header.set_xyzt_units(source.get_xyzt_units()[0])
    sizes = [int(size) for size in source.get_data_shape()[:3]]
    x, y, z = sizes + [1] * (3 - len(sizes))
    header.set_data_shape((x, y, z))
    return NiftiGrid(header, (x, y, z))


def grid_of(shape: tuple[int, ...], affine: npt.NDArray[np.float64]) -> NiftiGrid:
    """The grid of (x, y, z) voxels under an affine to RAS mm, in scanner coordinates."""
    image = nib.Nifti1Image(np.broadcast_to(np.uint8(0), shape), affine)
    image.set_sform(affine, _SCANNER)
    image.set_qform(affine, _SCANNER)
    image.header.set_xyzt_units("mm")
    x, y, z = shape
    return NiftiGrid(image.header, (x, y, z))


def write_nifti(path: Path, array: npt.NDArray[Any], grid: NiftiGrid) -> None:
    """Write (x, y, z) voxels on a grid, in the narrowest type that loses nothing.

    Args:
        path: ends in ``.nii.gz`` or ``.nii``.
        array: of the grid's shape; label maps are uint8 and stay so.
    """
    voxels = lossless(array).reshape(grid.shape)
    header = grid.header.copy()
    header.set_data_dtype(voxels.dtype)
    header.set_slope_inter(1, 0)
    kind = nib.Nifti2Image if header["sizeof_hdr"] == 540 else nib.Nifti1Image
    # No affine: nibabel would write it into the header's forms and change their codes.
    nib.save(kind(voxels, None, header), path)


def lossless(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The array in a type that NIfTI readers know well, without changing a value."""
    if array.dtype == np.bool_:
        return array.astype(np.uint8)
    if array.dtype == np.float16:
        return array.astype(np.float32)
    if array.dtype.kind in "iu" and array.dtype not in _INTEGERS:
        low, high = int(array.min()), int(array.max())
        for kind in _INTEGERS:
            if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
                return array.astype(kind)
        return array.astype(np.float64)
    return array


def _read_header(path: Path) -> Any:
    with path.open("rb") as stream:
        zipped = stream.read(2) == b"\x1f\x8b"
    with gzip.open(path, "rb") if zipped else path.open("rb") as stream:
        head = stream.read(540)
    two = 540 in (int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big"))
    kind = nib.Nifti2Header if two else nib.Nifti1Header
    return kind.from_fileobj(BytesIO(head), check=False)
