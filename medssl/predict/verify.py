"""Re-reads what was written and compares it, voxel by voxel in patient mm, with what was meant.

A label map that is right but lies on the wrong voxels is the worst result this program could give,
so every file is read back from disk by another path than the one that wrote it: a DICOM SEG by the
positions in its own frames, a NIfTI file by its own affine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import MedsslError

# Patient coordinates written as DICOM decimal strings and as float32 agree far better than this.
TOLERANCE_MM = 0.1
# How far, in voxels, a point may lie from its voxel: near enough to be certain which is meant.
# Scanners round slice positions, so single slices may differ by more than the centroid may.
TOLERANCE_VOXELS = 0.25

# DICOM's patient axes run to the left and to the back (PS3.3 C.7.6.2), NIfTI's to the right and
# to the front.
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

FloatArray = npt.NDArray[np.float64]
Points = tuple[str, FloatArray]  # a label's name, and voxel centres (n, 3) in RAS mm


@dataclass(frozen=True)
class LabelPlace:
    """Where one label lies: its voxels, and their centroid in RAS mm."""

    voxels: int
    centroid_mm: tuple[float, float, float]


@dataclass
class _Tally:
    """Adds up the voxels of one label."""

    voxels: int = 0
    astray: int = 0
    total: FloatArray = field(default_factory=lambda: np.zeros(3))

    def add(self, points: FloatArray, astray: int = 0) -> None:
        self.voxels += len(points)
        self.astray += astray
        self.total = self.total + points.sum(axis=0)

    def place(self) -> LabelPlace:
        x, y, z = (float(value) for value in self.total / self.voxels)
        return LabelPlace(self.voxels, (x, y, z))


def label_places(
    labels: npt.NDArray[np.generic], affine: FloatArray, label_names: Mapping[str, int]
) -> dict[str, LabelPlace]:
    """Where each label of a volume lies.

    Args:
        labels: (x, y, z) unsigned integers, 0 is background.
        affine: 4x4, voxel index to RAS mm.
        label_names: name -> value of every label that may occur.

    Returns:
        name -> place, for the labels that have voxels.
    """
    tallies: dict[str, _Tally] = {}
    for name, points in _volume_points(labels, affine, {v: n for n, v in label_names.items()}):
        tallies.setdefault(name, _Tally()).add(points)
    return {name: tally.place() for name, tally in tallies.items()}


def check_nifti(
    path: Path, labels: npt.NDArray[np.generic], affine: FloatArray, label_names: Mapping[str, int]
) -> dict[str, LabelPlace]:
    """Read a NIfTI label map and compare it with `labels`; see `check_points`."""
    import nibabel

    image = nibabel.load(path)
    written = np.asarray(image.dataobj)
    own_affine = np.asarray(image.affine, np.float64)
    names = {value: name for name, value in label_names.items()}
    return check_points(
        _volume_points(written, own_affine, names), labels, affine, label_names, "NIfTI"
    )


def check_seg(
    path: Path, labels: npt.NDArray[np.generic], affine: FloatArray, label_names: Mapping[str, int]
) -> dict[str, LabelPlace]:
    """Read a binary DICOM SEG and compare it with `labels`; see `check_points`.

    Reads the functional groups itself (PS3.3 C.8.20.3 segment identification, C.7.6.16.2 plane
    position, plane orientation and pixel measures) and knows nothing of the writer. Segments are
    known by their SegmentLabel.
    """
    return check_points(_seg_points(path), labels, affine, label_names, "DICOM SEG")


def check_points(
    written: Iterable[Points],
    labels: npt.NDArray[np.generic],
    affine: FloatArray,
    label_names: Mapping[str, int],
    where: str,
    tolerance_mm: float = TOLERANCE_MM,
) -> dict[str, LabelPlace]:
    """Compare points read from a file with the label map they were written from.

    Every labelled voxel must have exactly one point, of its label and within a quarter of a voxel,
    and the centroids of each label must agree in mm.

    Args:
        written: labelled points in RAS mm, in parts.
        labels: (x, y, z) unsigned integers, what was meant.
        affine: 4x4, voxel index of `labels` to RAS mm.
        label_names: name -> value.
        where: the kind of file, for the error.
        tolerance_mm: the largest distance between centroids.

    Returns:
        name -> place, as read from the file.

    Raises:
        MedsslError: PREDICTION_MOVED.
    """
    rest = labels.copy()
    tallies: dict[str, _Tally] = {}
    for name, points in written:
        if name not in label_names:
            raise _moved("it names a label that was not predicted", where)
        astray = _strike_out(rest, affine, points, label_names[name])
        tallies.setdefault(name, _Tally()).add(points, astray)
    found = {name: tally.place() for name, tally in tallies.items()}
    meant = label_places(labels, affine, label_names)
    for name in found.keys() | meant.keys():
        have, want = found.get(name), meant.get(name)
        if have is None or want is None or have.voxels != want.voxels:
            counts = f"{have.voxels if have else 0}, not {want.voxels if want else 0}"
            raise _moved(f"label {label_names[name]} has {counts} voxels", where)
        apart = float(np.linalg.norm(np.subtract(have.centroid_mm, want.centroid_mm)))
        # Written so that a distance that is not a number fails too.
        if not apart <= tolerance_mm:
            raise _moved(f"label {label_names[name]} has moved by {apart:.2f} mm", where)
        if tallies[name].astray:
            text = f"{tallies[name].astray} voxels of label {label_names[name]} lie elsewhere"
            raise _moved(text, where)
    if rest.any():
        raise _moved(f"{np.count_nonzero(rest)} labelled voxels are missing", where)
    return found


def plane_affine(
    position: Sequence[float], orientation: Sequence[float], pixel_spacing: Sequence[float]
) -> FloatArray:
    """4x4 from (column, row, 0, 1) to LPS mm for one plane; the third column is its unit normal.

    DICOM PS3.3 C.7.6.2.1.1, equation C.7.6.2.1-1.
    """
    along_row = np.asarray(orientation[:3], np.float64)
    along_column = np.asarray(orientation[3:], np.float64)
    affine = np.eye(4)
    # PixelSpacing is (between rows, between columns): the first is the step down a column.
    affine[:3, 0] = along_row * float(pixel_spacing[1])
    affine[:3, 1] = along_column * float(pixel_spacing[0])
    affine[:3, 2] = np.cross(along_row, along_column)
    affine[:3, 3] = np.asarray(position, np.float64)
    return affine


def _volume_points(
    labels: npt.NDArray[np.generic], affine: FloatArray, names: Mapping[int, str]
) -> Iterator[Points]:
    """The labelled voxels of (x, y, z), plane by plane to bound memory."""
    for index in range(labels.shape[2]):
        x, y = np.nonzero(labels[:, :, index])
        values = labels[x, y, index]
        voxels = np.stack([x, y, np.full_like(x, index)], axis=1).astype(np.float64)
        points = voxels @ affine[:3, :3].T + affine[:3, 3]
        for value in np.unique(values):
            # A value without a name gets one that no label has, for the caller to refuse.
            yield names.get(int(value), f"\0{value}"), points[values == value]


def _seg_points(path: Path) -> Iterator[Points]:
    """The set pixels of each frame of a DICOM SEG."""
    import pydicom

    dataset = pydicom.dcmread(path)
    names = {int(item.SegmentNumber): str(item.SegmentLabel) for item in dataset.SegmentSequence}
    frames = np.asarray(dataset.pixel_array).reshape(-1, dataset.Rows, dataset.Columns)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    for frame, groups in zip(frames, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        # A group that is the same for all frames may stand in the shared ones only.
        segment = _group("SegmentIdentificationSequence", groups, shared)
        measures = _group("PixelMeasuresSequence", groups, shared)
        orientation = _group("PlaneOrientationSequence", groups, shared)
        position = _group("PlanePositionSequence", groups, shared)
        to_ras = LPS_TO_RAS @ plane_affine(
            position.ImagePositionPatient,
            orientation.ImageOrientationPatient,
            measures.PixelSpacing,
        )
        rows, columns = np.nonzero(frame)
        if rows.size:
            pixels = np.stack([columns, rows], axis=1).astype(np.float64)
            yield (
                names[int(segment.ReferencedSegmentNumber)],
                pixels @ to_ras[:3, :2].T + to_ras[:3, 3],
            )


def _strike_out(
    rest: npt.NDArray[np.generic],
    affine: FloatArray,
    points: FloatArray,
    value: int,
) -> int:
    """Zero the voxels of `rest` that points fall on; the number that fall on no such voxel."""
    inverse = np.linalg.inv(affine)
    exact = points @ inverse[:3, :3].T + inverse[:3, 3]
    voxels = np.rint(exact)
    good = np.all(
        (np.abs(exact - voxels) <= TOLERANCE_VOXELS) & (voxels >= 0) & (voxels < rest.shape),
        axis=1,
    )
    x, y, z = voxels[good].astype(np.intp).T
    right = rest[x, y, z] == value
    rest[x[right], y[right], z[right]] = 0
    return len(points) - int(right.sum())


def _moved(what: str, where: str) -> MedsslError:
    return MedsslError(
        "PREDICTION_MOVED",
        f"what was read back is not what was predicted: {what}",
        where=where,
        fix="The case was not kept; report it with the geometry of its input.",
    )


def _group(name: str, *groups: Any) -> Any:
    """The item of a functional group, from the frame's groups or else from the shared ones."""
    for group in groups:
        if name in group:
            return getattr(group, name)[0]
    raise _moved(f"it has no {name}", "DICOM SEG")
