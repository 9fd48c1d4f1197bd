"""The synthetic patient: an image, its label map and where they lie in the patient."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Phantom:
    """One synthetic patient.

    image: (1, x, y, z) int16; Hounsfield units for CT, arbitrary positive units for MR.
    label: (1, x, y, z) uint8; 0 is background, the rest is named by `label_names`.
    affine: (4, 4) float64; voxel index to RAS+ millimetres, as in nibabel.
    """

    patient_id: str
    image: NDArray[np.int16]
    label: NDArray[np.uint8]
    affine: NDArray[np.float64]
    modality: str
    label_names: dict[int, str]
    body_part: str
    seed: int
    lesions: int = field(default=0)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size along x, y, z in millimetres."""
        size = np.linalg.norm(self.affine[:3, :3], axis=0)
        return (float(size[0]), float(size[1]), float(size[2]))
