"""Two kinds of synthetic patient. The same arguments give the same patient, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medssl.phantom.fields import Canvas, Grid
from medssl.phantom.head import LABEL_NAMES as HEAD_LABELS
from medssl.phantom.head import paint_head
from medssl.phantom.patient import Phantom
from medssl.phantom.torso import LABEL_NAMES as TORSO_LABELS
from medssl.phantom.torso import paint_torso


def torso(
    seed: int,
    shape: Sequence[int] = (112, 84, 44),
    spacing: Sequence[float] = (3.4, 3.4, 5.0),
) -> Phantom:
    """A torso-like CT from mid chest to the kidneys, (1, x, y, z) int16 in HU.

    seed: which patient. shape: voxels along x, y, z. spacing: mm. The anatomy is placed in mm, so
    another grid shows the same patient; only noise and where lesions sit are drawn by voxel. Slices
    are axial.
    Raises ValueError where the grid reaches beyond 26 cm from its centre.
    """
    rng = np.random.default_rng([1, seed])
    grid = Grid(shape, spacing)
    affine = _affine(grid, tilt=0.0, centre=(0.0, 0.0, rng.uniform(-400.0, -250.0)))
    canvas, lesions = paint_torso(rng, grid)
    return _phantom("T", seed, canvas, affine, "CT", TORSO_LABELS, "ABDOMEN", lesions)


def head(
    seed: int,
    shape: Sequence[int] = (80, 96, 60),
    spacing: Sequence[float] = (2.2, 2.2, 3.0),
) -> Phantom:
    """A head-like T1-weighted MR, (1, x, y, z) int16 in arbitrary units.

    Arguments and errors as in `torso`. Slices are oblique: the scan is angled about the x axis by
    -12 to 12 degrees, as planned on the scout, and the affine says so.
    """
    rng = np.random.default_rng([2, seed])
    grid = Grid(shape, spacing)
    affine = _affine(grid, tilt=rng.uniform(-12.0, 12.0), centre=tuple(rng.uniform(-15, 15, 3)))
    canvas, lesions = paint_head(rng, grid)
    return _phantom("H", seed, canvas, affine, "MR", HEAD_LABELS, "HEAD", lesions)


def _affine(grid: Grid, tilt: float, centre: Sequence[float]) -> NDArray[np.float64]:
    """Voxel to RAS+ mm: spacing, a turn of `tilt` degrees about x, then `centre` (mm)."""
    c, s = np.cos(np.deg2rad(tilt)), np.sin(np.deg2rad(tilt))
    turn = np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(grid.spacing)
    affine[:3, 3] = np.asarray(centre) - affine[:3, :3] @ ((np.asarray(grid.shape) - 1) / 2.0)
    return affine


def _phantom(
    kind: str,
    seed: int,
    canvas: Canvas,
    affine: NDArray[np.float64],
    modality: str,
    label_names: dict[int, str],
    body_part: str,
    lesions: int,
) -> Phantom:
    return Phantom(
        patient_id=f"PHANTOM-{kind}{seed:03d}",
        image=np.rint(canvas.image).astype(np.int16)[None],
        label=canvas.label[None],
        affine=affine,
        modality=modality,
        label_names=dict(label_names),
        body_part=body_part,
        seed=seed,
        lesions=lesions,
    )
