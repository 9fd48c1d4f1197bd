"""`medssl locate`: a point of one NIfTI image in another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.bundle import Bundle, InputContract
from medssl.errors import Exit, MedsslError
from medssl.evaluate.inference import check_shape, resolve_device
from medssl.evaluate.locate import Scan, locate
from medssl.predict.cases import load_nifti
from medssl.predict.nifti import nifti_grid, write_nifti
from medssl.store.grid import from_canonical, spacing_of, to_canonical
from medssl.store.intensity import statistics

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Found:
    """A point of scan A in scan B.

    Attributes:
        asked_mm, asked_voxel: where it is in A, in mm of the scanner's space (RAS+) and as a voxel
            of the file, from 0.
        mm, voxel: the same of where it was found in B.
        similarity: from -1 to 1, how alike the two places are.
        return_mm: the place in B, found again in A, lies so far from where it was asked for.
    """

    asked_mm: tuple[float, ...]
    asked_voxel: tuple[float, ...]
    mm: tuple[float, ...]
    voxel: tuple[int, ...]
    similarity: float
    return_mm: float


@dataclass(frozen=True)
class _File:
    """A NIfTI image as a network sees it.

    Attributes:
        scan: in RAS+.
        to_mm: 4 x (d + 1), voxel of the scan's array -> mm.
        affine: 4x4, voxel of the file -> mm.
        codes: the file's orientation; empty of a 2D image, whose array is as in the file.
    """

    scan: Scan
    to_mm: Array
    affine: Array
    codes: str

    def mm(self, voxel: Array) -> Array:
        """(d,) of the scan's array -> (3,)."""
        place: Array = self.to_mm @ np.append(voxel, 1.0)
        return place[:3]

    def voxel(self, mm: Array) -> Array:
        """(3,) -> (d,) of the scan's array; nan where a 2D image's plane is not there."""
        found = np.linalg.lstsq(self.to_mm[:3, :-1], mm - self.to_mm[:3, -1], rcond=None)[0]
        away = np.abs(np.linalg.solve(self.affine, np.append(mm - self.mm(found), 0.0))[:3])
        return np.where(away.max() <= 0.5, found, np.nan)

    def in_file(self, mm: Array) -> Array:
        """(3,) -> voxel of the file, (3,)."""
        place: Array = np.linalg.solve(self.affine, np.append(mm, 1.0))
        return place[:3]


def locate_point(
    first: Path,
    second: Path,
    point: Sequence[float],
    bundle_path: Path,
    *,
    voxel: bool = False,
    map_path: Path | None = None,
    device: str = "auto",
) -> Found:
    """Find a point of one image in another.

    Args:
        first, second: NIfTI files.
        point: of the first, mm in the scanner's space (RAS+).
        bundle_path: a bundle with an embedding.
        voxel: the point is a voxel of the first file instead, counted from 0 along its own axes.
        map_path: where to write the similarity to every voxel of the second, float32 on its grid.
        device: "auto", "cpu", "cuda", "cuda:1", ...

    Raises:
        MedsslError: INPUT_MISSING, OUT_EXISTS, BUNDLE_*, EMBEDDING_MISSING, DEVICE_MISSING,
            POINT_OUTSIDE, CONTRACT_MISMATCH, VOLUME_EMPTY, and what reading NIfTI raises.
    """
    place = resolve_device(device)
    if map_path is not None and map_path.exists():
        raise MedsslError("OUT_EXISTS", "The map already exists", where="--map")
    if map_path is not None and not map_path.name.endswith((".nii", ".nii.gz")):
        raise MedsslError("CONFIG_INVALID", "A map is a .nii or .nii.gz file", where="--map")
    bundle = Bundle.load(bundle_path)
    embedding, contract = bundle.embedding(), bundle.spec.contract
    a, b = (_read(path, contract, name) for path, name in ((first, "A"), (second, "B")))
    asked = np.asarray(point, np.float64)
    asked = a.affine[:3, :3] @ asked + a.affine[:3, 3] if voxel else asked
    points = a.voxel(asked)[None]
    try:
        found = locate(embedding, a.scan, b.scan, points, contract, place)
    except MedsslError as error:
        if error.code != "POINT_OUTSIDE":
            raise
        raise MedsslError(
            "POINT_OUTSIDE",
            "The point lies outside of scan A",
            where="--point",
            fix=f"Its voxels lie within {_extent(a)} mm; --voxel takes voxel numbers.",
        ) from None
    if map_path is not None:
        _write_map(map_path, second, b, found.maps.cpu().numpy())
    there = b.mm(found.voxels[0])
    return Found(
        _numbers(asked),
        _numbers(a.in_file(asked)),
        _numbers(there),
        tuple(round(n) for n in b.in_file(there).tolist()),
        float(found.similarity[0]),
        float(found.return_mm[0]),
    )


def _read(path: Path, contract: InputContract, name: str) -> _File:
    if not path.is_file():
        raise MedsslError("INPUT_MISSING", f"Scan {name} does not exist", where=name)
    try:
        image = load_nifti(path)
        check_shape(image.array.shape, contract)
        stats = statistics(image.array)
        if stats["min"] == stats["max"]:
            raise MedsslError("VOLUME_EMPTY", "All voxels are the same")
    except MedsslError as error:
        refused = MedsslError(error.code, error.what, where=f"scan {name}", fix=error.fix)
        if error.exit_code == Exit.SOME_REJECTED:  # there is no other scan to go on with
            refused.exit_code = Exit.NOTHING_USABLE
        raise refused from None
    assert image.affine is not None  # every NIfTI file that can be read has one
    if image.array.ndim == 3:
        # (row, column) is (y, x) of the file.
        to_mm = image.affine[:, [1, 0, 3]]
        return _File(Scan(image.array, image.spacing, stats), to_mm, image.affine, "")
    array, affine, codes = to_canonical(image.array, image.affine)
    return _File(Scan(array, spacing_of(affine), stats), affine, image.affine, codes)


def _write_map(path: Path, second: Path, b: _File, similarity: npt.NDArray[np.float32]) -> None:
    """Write (1, *spatial) of a scan's array on the grid of its file."""
    if b.codes:
        similarity, _ = from_canonical(similarity, b.to_mm, b.codes)
    else:
        similarity = similarity.transpose(0, 2, 1)[..., None]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_nifti(path, np.ascontiguousarray(similarity[0]), nifti_grid(second))


def _extent(file: _File) -> str:
    """The box of the voxels' centres in mm, along the scanner's axes."""
    last = np.array(file.scan.array.shape[1:]) - 1
    corners = [file.mm(np.array(corner) * last) for corner in np.ndindex(*(2,) * len(last))]
    low, high = np.min(corners, axis=0), np.max(corners, axis=0)
    rows = zip("xyz", low, high, strict=True)
    return ", ".join(f"{axis} {least:.0f} to {most:.0f}" for axis, least, most in rows)


def _numbers(values: Array) -> tuple[float, ...]:
    return tuple(round(float(value), 3) for value in values)
