"""Removing the face from a head.

Everything in front of the ears and under a plane from the brow down to the base of the skull is
set to one value: eyes, nose, mouth, chin and what lies behind them, with the air before them. The
idea of a shear along the underside of the brain is that of Schimke and Hale (2011), "Quickshear
defacing for neuroimages"; here the plane comes with a model of a head fitted to the skin
(:mod:`medssl.ingest.head`), as there is no brain mask. Forehead, ears and the rest of the head
stay. A method of geometry: it is not validated against attempts to re-identify.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import MedsslError
from medssl.ingest.face import NONE, REMOVED, VISIBLE, FaceState, face_state, faces_backwards

Array = npt.NDArray[Any]

VERSION = "v1"

# In the model's frame, mm: under z = _SLOPE y + _RISE, and under _BROW where only the forehead's
# skin and bone lie behind (y over _FRONT); before _BEHIND, over _UNDER, not far beside.
_SLOPE, _RISE = 0.55, -60.0
_FRONT, _BROW = 68.0, -14.0
_BEHIND, _UNDER, _BESIDE = -10.0, -175.0, 110.0
_LEAST, _MOST = 0.002, 0.5
_AIR_HU = -1000.0


def deface(
    array: Array, affine: Array, modality: str, state: FaceState | None = None
) -> tuple[Array, float]:
    """Remove the face.

    Args:
        array: (1, x, y, z) in any axis order; not changed.
        affine: 4x4, voxel to RAS mm.
        modality: DICOM code.
        state: of this very array, where it is already known.

    Returns:
        a copy of the array with the voxels removed, in its dtype: -1000 in CT (or the least value
        where that is higher), else 0, or the least value where that is negative; and the share of
        the body removed, of that part of it in which the head was looked for, 0 to 1.

    Raises:
        MedsslError: FACE_NOT_REMOVED where the face is not found with certainty.
    """
    state = state or face_state(array, affine, modality)
    if state.state != VISIBLE or state.head is None:
        raise _refused(f"The face could not be located: {state.reason}")
    fitter, pose = state.head
    if faces_backwards(fitter, pose):
        raise _refused("The back of the head looks like a face too: is the orientation right?")
    places = fitter.body()
    share = float(_in_face(pose.to_model(places)).mean())
    if not _LEAST <= share <= _MOST:
        raise _refused(f"Removing the face would take {100 * share:.1f} % of the head")
    out = array.copy()
    values = out[0]
    empty = _empty(values, modality)
    index = np.indices(values.shape[1:]).reshape(2, -1)
    for i in range(values.shape[0]):
        voxels = np.vstack([np.full((1, index.shape[1]), i), index])
        points = (affine[:3, :3] @ voxels).T + affine[:3, 3]
        values[i][_in_face(pose.to_model(points)).reshape(values.shape[1:])] = empty
    return out, share


@dataclass(frozen=True)
class FaceRecord:
    """What the manifest says of a face: the columns ``face`` and ``deface``, and the defects; and
    what is known of the head."""

    face: str = ""
    deface: str = ""
    defects: tuple[str, ...] = ()
    known: FaceState | None = None


def without_face(
    array: Array,
    affine: Array | None,
    modality: str,
    body_part: str = "",
    *,
    deface: bool = False,
    allow: Collection[str] = (),
    before: FaceState | None = None,
) -> tuple[Array, FaceRecord]:
    """Tell whether a volume shows a face; remove it if asked to.

    Args:
        array: (1, x, y, z); 2D images (``affine`` None) are not looked at.
        affine: 4x4, voxel to RAS mm, or None.
        modality: DICOM code.
        body_part: Body Part Examined, or empty.
        deface: remove the face where there is one, or may be.
        allow: with FACE_NOT_REMOVED in it a face that cannot be removed stays, as a defect.
        before: what is known of another volume of the same head on the same grid: where that may
            show a face, so may this, and it is not looked for again.

    Raises:
        MedsslError: FACE_NOT_REMOVED.
    """
    if affine is None:
        return array, FaceRecord()
    state = before if before is not None and before.state != NONE else None
    state = state or face_state(array, affine, modality, body_part, thorough=deface)
    if not deface or state.state == NONE:
        return array, FaceRecord(state.state, known=state)
    try:
        array, share = _deface(array, affine, modality, state)
    except MedsslError as error:
        if error.code not in allow:
            raise
        return array, FaceRecord(state.state, "", (error.code,), state)
    return array, FaceRecord(REMOVED, f"{VERSION} {100 * share:.1f} %", known=state)


_deface = deface  # `deface` is also the name of an option


def _refused(what: str) -> MedsslError:
    fix = "Leave the series out, or accept it as it is with --allow FACE_NOT_REMOVED."
    return MedsslError("FACE_NOT_REMOVED", what, fix=fix)


def _in_face(points: Array) -> Array:
    x, y, z = points.T
    face = (z < _SLOPE * y + _RISE) & (y > _BEHIND) | (y > _FRONT) & (z < _BROW)
    return np.asarray(face & (z > _UNDER) & (np.abs(x) < _BESIDE))


def _empty(values: Array, modality: str) -> Any:
    least = values.min()
    empty = max(least, _AIR_HU) if modality == "CT" else min(least, 0)
    return np.asarray(empty).astype(values.dtype)
