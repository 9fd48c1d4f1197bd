"""Whether a volume shows a face that a surface rendering would bring out.

A rule of geometry, not a proof: "none" is said only where something speaks for it (the field of
view, the slice spacing, the trunk at the top), and what is left open is "unknown", to be treated
as visible. It trusts the affine for where front and top are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from medssl.ingest.skin import Skin, find_skin, upper
from medssl.store.grid import spacing_of

if TYPE_CHECKING:
    from medssl.ingest.head import Fitter, Pose
    from medssl.ingest.relief import Match

Array = npt.NDArray[Any]

VISIBLE, REMOVED, NONE, UNKNOWN = "visible", "removed", "none", "unknown"

_COARSEST_MM = 10.0
_FINE_MM = 2.5
_THIN_MM = 30.0
_SMALL_MM = 70.0
_ABOVE_EYES_MM = 80.0
_TRUNK_MM = 230.0
_SHOULDERS_MM = 60.0
_SCORE, _STRENGTH, _SHIFT_MM, _ERROR_MM = 0.6, 0.3, 4.0, 4.5
_LARGEST_TURN = 40.0
_BACK = 0.85

# Body Part Examined (PS3.16 Annex L) of what has no face in it.
_ELSEWHERE = frozenset(
    {
        *("ABDOMEN", "ABDOMENPELVIS", "PELVIS", "PROSTATE", "BLADDER", "UTERUS", "RECTUM"),
        *("LIVER", "KIDNEY", "PANCREAS", "SPLEEN", "HEART", "LUNG", "BREAST"),
        *("TSPINE", "TLSPINE", "LSPINE", "LSSPINE", "SSPINE", "SACRUM", "COCCYX"),
        *("HIP", "LEG", "THIGH", "FEMUR", "KNEE", "CALF", "TIBIA", "ANKLE", "FOOT", "TOE"),
        *("SHOULDER", "ARM", "HUMERUS", "ELBOW", "FOREARM", "WRIST", "HAND", "FINGER"),
        "EXTREMITY",
    }
)


@dataclass(frozen=True)
class FaceState:
    """What is known of the face in a volume.

    Attributes:
        state: "visible", "removed", "none" or "unknown"; unknown may be visible.
        reason: one phrase, free of identifiers.
        head: the volume's head and its pose, where one could be fitted.
    """

    state: str
    reason: str
    head: tuple[Fitter, Pose] | None = None


def face_state(
    array: Array, affine: Array, modality: str, body_part: str = "", *, thorough: bool = True
) -> FaceState:
    """Decide whether a volume shows a face.

    Args:
        array: (1, x, y, z) or (x, y, z) in any axis order.
        affine: 4x4, voxel to RAS mm.
        modality: DICOM code.
        body_part: Body Part Examined, or empty. It can only tell limbs and trunk, where no head
            ends the body at the top of the volume.
        thorough: look for eyes and nose in coarse volumes too, where they are seldom found: it
            takes longer than reading them. Otherwise a coarse head is unknown.

    Returns:
        the state; never raises for an image.
    """
    values = array[0] if array.ndim == 4 else array
    spacing = np.array(spacing_of(affine))
    extent = spacing * values.shape
    if spacing.max() > _COARSEST_MM:
        return FaceState(NONE, f"slices {spacing.max():.0f} mm apart")
    if extent.min() < _THIN_MM or np.sort(extent)[1] < _SMALL_MM:
        return FaceState(NONE, "the field of view is smaller than a face")
    skin = find_skin(values, affine, modality)
    if skin is None:
        return FaceState(UNKNOWN, "no body could be told from the air")
    below = _no_face_by_shape(skin, body_part)
    if below:
        return FaceState(NONE, below)
    part = upper(skin)
    if not (95 <= part.width <= 210 and 110 <= part.depth <= 260):
        return FaceState(UNKNOWN, "not of the size of a head")
    if not thorough and np.sort(spacing)[1] > _FINE_MM:
        return FaceState(UNKNOWN, "a coarse head, not looked at closely")
    from medssl.ingest.head import Fitter  # with SciPy, which is slow to import

    fitter = Fitter(part)
    pose, seen = _locate(fitter)
    if seen is None or not _certain(pose, seen):
        return FaceState(UNKNOWN, "a head, perhaps, in which no face was found", (fitter, pose))
    return FaceState(VISIBLE, "a head with eyes and nose in the field of view", (fitter, pose))


def _no_face_by_shape(skin: Skin, body_part: str) -> str:
    """Why there is no face, or ""."""
    widths = skin.widths()
    if widths[: max(1, round(_SHOULDERS_MM / skin.spacing[2]))].max() > _TRUNK_MM:
        return "shoulders or trunk at the top"
    if skin.cut_above:
        return "another part of the body" if body_part.upper() in _ELSEWHERE else ""
    size = (skin.width / 158 + skin.depth / 206) / 2
    if len(widths) * skin.spacing[2] < _ABOVE_EYES_MM * size and skin.mask[:, :, 0].any():
        return "the field of view ends above the eyes"
    return ""


def _locate(fitter: Fitter, yaw: float = 0.0) -> tuple[Pose, Match | None]:
    """Fit, look for the face, and fit again to where it was seen."""
    from medssl.ingest.head import NASION
    from medssl.ingest.relief import match

    pose = fitter.fit(yaw)
    seen = match(fitter, pose)
    for _ in range(2):
        if seen is None or abs(seen.shift) <= _SHIFT_MM:
            break
        higher = NASION + np.array([0.0, 0.0, seen.shift])
        nasion = pose.from_model(higher[None])[0]
        pose = fitter.fit(yaw, nasion)
        seen = match(fitter, pose)
    return pose, seen


def _certain(pose: Pose, seen: Match) -> bool:
    return (
        seen.score >= _SCORE
        and seen.strength >= _STRENGTH
        and abs(seen.shift) <= _SHIFT_MM
        and pose.error <= _ERROR_MM
        and max(abs(turn) for turn in pose.rotation) <= _LARGEST_TURN
    )


def faces_backwards(fitter: Fitter, pose: Pose) -> bool:
    """Whether the back of the head looks as much like a face as its front.

    Then the affine may say front where back is, or neither is seen well.
    """
    from medssl.ingest.relief import match

    front = match(fitter, pose)
    other = _locate(fitter, 180.0)[1]
    if front is None:
        return True
    return other is not None and other.score > _BACK * front.score


def face_notes(states: Sequence[str]) -> list[str]:
    """What to tell of the states of a store's volumes; nothing where no face may be visible."""
    visible, unknown = states.count(VISIBLE), states.count(UNKNOWN)
    if not visible and not unknown:
        return []
    return [
        f"Volumes that show a face: {visible}; that may: {unknown}. Ingest with --deface, or keep "
        "the store inside."
    ]
