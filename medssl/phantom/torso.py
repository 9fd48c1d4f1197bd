"""A torso-like CT from mid chest to the lower poles of the kidneys, in Hounsfield units.

Portal venous phase: vessels are brighter than parenchyma. All lengths are in mm in the patient's
frame: RAS+, so +x is the patient's right, +y front, +z head.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from medssl.phantom.abdomen import (
    paint_bowel,
    paint_kidneys,
    paint_left_upper,
    paint_lesions,
    paint_liver,
    paint_vessels,
)
from medssl.phantom.build import AIR, BLOOD, FAT, MUSCLE, Build, Frame, frame_of
from medssl.phantom.fields import Array, Canvas, Grid, blend, ellipsoid, inside

LABEL_NAMES = {1: "liver", 2: "spleen", 3: "kidneys", 4: "lungs", 5: "spine", 6: "lesion"}


def paint_torso(rng: np.random.Generator, grid: Grid) -> tuple[Canvas, int]:
    """Draw one torso; returns the canvas (image in HU, label map) and the number of lesions."""
    build = Build.draw(rng)
    table = _table(grid, build)
    grid.warp(rng, 90.0, 5.0)
    grid.warp(rng, 42.0, 1.8)
    frame = frame_of(rng, grid, build)
    canvas = Canvas(grid, AIR)
    canvas.paint(table, -180.0)
    _wall(rng, grid, canvas, build, frame)
    _chest(rng, grid, canvas, build, frame)
    paint_bowel(rng, grid, canvas, frame)
    _spine(rng, grid, canvas, build)
    liver = paint_liver(rng, grid, canvas, build, frame)
    paint_left_upper(rng, grid, canvas, build, frame)
    paint_kidneys(rng, grid, canvas, build)
    paint_vessels(grid, canvas)
    lesions = paint_lesions(rng, grid, canvas, liver)
    _scanner(rng, grid, canvas)
    return canvas, lesions


def _table(grid: Grid, build: Build) -> Array:
    """The couch under the patient: a thin curved sheet, drawn before the patient is bent."""
    arc = grid.y + build.half_depth + 16 - (grid.x / 190.0) ** 2 * 34
    return np.abs(arc + 0 * grid.z) - 2.5


def _wall(rng: np.random.Generator, grid: Grid, canvas: Canvas, build: Build, frame: Frame) -> None:
    """Skin, fat, the muscle of the wall and of the back, ribs and breastbone."""
    canvas.paint(frame.body, 25.0)
    canvas.paint(frame.body + 2.2, FAT + 4 * grid.noise(rng, 12.0))
    canvas.paint(frame.cavity - build.wall, MUSCLE)
    planes = np.abs(grid.noise(rng, 18.0)) * 9 - 0.8
    canvas.paint(inside(frame.cavity - build.wall + 3, -frame.cavity, planes), FAT + 25)
    canvas.paint(frame.cavity, FAT)
    back_depth = build.half_depth - build.fat - 20
    for side in (-1, 1):
        muscle = ellipsoid(grid, (side * 34, -back_depth, 0), (33, 22, 900))
        canvas.paint(inside(muscle, frame.body + build.fat * 0.8), MUSCLE + 4)
    lines = np.abs(grid.noise(rng, 11.0)) * 7 - 0.7
    canvas.paint(
        inside(lines, np.abs(grid.x) - 60, grid.y + back_depth - 12, frame.body + build.fat),
        FAT + 40,
    )
    descent = (grid.z + 0.55 * grid.y + rng.uniform(0, 28)) / 28.0
    gap = (descent - np.round(descent)) * 28.0
    across = frame.cavity - 5.5
    rib = np.hypot(across * 1.25, gap * 0.8) - 4.6
    margin = 0.75 * (grid.y + 75) - 70 - grid.z
    rib = inside(rib, margin, 20 - np.abs(grid.x))
    canvas.paint(rib, build.bone_hu + 330)
    canvas.paint(rib + 2.6, build.bone_hu)
    plate = inside(across - 5, -across - 5, np.abs(grid.x) - 15, -grid.y, 42 - grid.z)
    canvas.paint(plate, build.bone_hu + 200)
    canvas.paint(plate + 2.8, build.bone_hu * 0.6)


def _chest(
    rng: np.random.Generator, grid: Grid, canvas: Canvas, build: Build, frame: Frame
) -> None:
    """Lungs with vessels, heart, mediastinum."""
    above = 3.0 - frame.below
    centre = blend(
        ellipsoid(grid, (0, -25, 80), (36, 62, 900)),
        ellipsoid(grid, (-22, 34, 62), (62, 50, 52), 12.0) - 3,
        16.0,
    )
    lung = inside(frame.cavity + 1.5, above, -centre)
    density = -840.0 - 25 * grid.y / 100 + 18 * grid.noise(rng, 30.0) + 14 * grid.noise(rng, 8.0)
    canvas.paint(lung, density, 4)
    hilum = np.sqrt((np.abs(grid.x + 4) - 34) ** 2 + (grid.y + 8) ** 2 + (grid.z - 70) ** 2)
    for step, radius in ((26.0, 0.25), (14.0, 0.20), (9.0, 0.15)):
        line = np.hypot(grid.noise(rng, step), grid.noise(rng, step))
        thick = radius * np.clip(1.5 - hilum / 110.0, 0.35, 1.3)
        vessel = inside((line - thick) * step * 0.75, lung + 4)
        canvas.paint(vessel, 35.0, None)
    heart: Array = ellipsoid(grid, (-24, 36, 64), (54, 42, 44), 12.0) + 3 * grid.noise(rng, 30.0)
    heart = inside(heart, above)
    canvas.paint(heart, 105.0)
    for centre_mm, radii in (
        ((-42, 40, 58), (24, 20, 26)),
        ((2, 46, 66), (22, 17, 26)),
        ((-14, 12, 82), (26, 14, 18)),
    ):
        canvas.paint(inside(ellipsoid(grid, centre_mm, radii, 14.0), heart + 5), BLOOD + 10)
    canvas.paint(ellipsoid(grid, (-4, -30, 80), (9, 7, 900)), 40.0, 0)
    sheet = np.abs(frame.below) - 1.8
    canvas.paint(inside(sheet, frame.cavity), MUSCLE)


def _spine(rng: np.random.Generator, grid: Grid, canvas: Canvas, build: Build) -> None:
    """Vertebrae, discs, canal, processes and the psoas muscles."""
    front = -56 + 4 * np.sin(grid.z / 70.0)
    for side in (-1, 1):
        swell = np.clip((20 - grid.z) / 110.0, 0, 1)
        psoas = np.hypot(grid.x - side * (30 + 12 * swell), (grid.y - front + 4) * 0.9) - 22 * swell
        canvas.paint(psoas, MUSCLE + 3)
    u = (grid.z + rng.uniform(0, 34)) / 34.0
    level = np.abs(u - np.round(u)) * 34.0
    shift = front + 56
    moved = np.hypot(grid.x / 21.5, (grid.y + 56 - shift) / 17.0)
    column = (moved - 1) * 18.0
    body = inside(column, level - 13.0)
    canvas.paint(column, 85.0, 5)
    canvas.paint(body, build.bone_hu + 260, 5)
    canvas.paint(body + 2.4, build.bone_hu + 22 * grid.noise(rng, 6.0), 5)
    arch = inside(ellipsoid(grid, (0, -80, 0), (16, 14, 900)), level - 15)
    canvas.paint(arch, build.bone_hu + 230, 5)
    canvas.paint(ellipsoid(grid, (0, -79, 0), (9.5, 8.5, 900)), 22.0)
    canvas.paint(ellipsoid(grid, (0, -79, 0), (5, 4.5, 900)), 42.0)
    spinous = inside(np.hypot(grid.x, (level - 2) * 0.30) - 3.6, np.abs(grid.y + 102) - 14)
    canvas.paint(spinous, build.bone_hu + 200, 5)
    wing = inside(
        np.hypot(grid.y + 77 - shift, (level - 4) * 0.8) - 5.0,
        np.abs(grid.x) - 40,
        14 - np.abs(grid.x),
    )
    canvas.paint(wing, build.bone_hu + 190, 5)


def _scanner(rng: np.random.Generator, grid: Grid, canvas: Canvas) -> None:
    """Blur by the scanner's resolution and add correlated noise."""
    sharp = gaussian_filter(canvas.image, [0.45, 0.45, 0.3])
    noise = 11.0 * grid.texture(rng, 1.7) + 4.0 * grid.texture(rng, 4.0)
    canvas.image = np.clip(sharp + noise, -1024, 3071)
