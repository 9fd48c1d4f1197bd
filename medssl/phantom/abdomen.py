"""The organs of the upper abdomen, painted into a torso."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from medssl.phantom.build import BLOOD, FAT, WATER, Build, Frame
from medssl.phantom.fields import Array, Canvas, Grid, blend, ellipsoid, inside, tube


def paint_bowel(rng: np.random.Generator, grid: Grid, canvas: Canvas, frame: Frame) -> None:
    """Loops of small bowel and colon in the fat of the abdomen."""
    room = inside(frame.cavity + 3, grid.z + 18 - 0.15 * grid.y, -18 - grid.y)
    field = grid.noise(rng, 19.0)
    loops = inside((0.05 - field) * 15, room)
    canvas.paint(loops, 72.0)
    canvas.paint(loops + 3.4, 28 + 12 * grid.noise(rng, 9.0))
    gas = inside((1.35 - field) * 13, room + 6, 20 - grid.y)
    canvas.paint(gas, -850.0)
    for x, top in ((rng.uniform(98, 112), -48), (rng.uniform(-116, -100), -30)):
        wobble = 3 * grid.noise(rng, 16.0)
        colon = inside(ellipsoid(grid, (x, -8, 0), (22, 24, 900)) + wobble, grid.z - top)
        colon = inside(colon, frame.cavity + 3)
        canvas.paint(colon, 62.0)
        canvas.paint(colon + 3.5, -20 + 70 * grid.noise(rng, 8.0))
        canvas.paint(inside(colon + 4.5, 4 - grid.y + wobble), -820.0)


def paint_liver(
    rng: np.random.Generator, grid: Grid, canvas: Canvas, build: Build, frame: Frame
) -> Array:
    """Liver with hepatic vessels, and the gallbladder; returns the liver's signed distance."""
    s = build.liver
    shift = rng.normal(0, 5, 3)
    right = ellipsoid(
        grid, (78 + shift[0], 6 + shift[1], -14 + shift[2]), (82 * s, 84 * s, 74 * s), 14.0
    )
    left = ellipsoid(grid, (2 + shift[0], 48, 8 + shift[2]), (72 * s, 34 * s, 36 * s), -14.0)
    organ: Array = blend(right, left, 22.0) + 4.5 * grid.noise(rng, 38.0)
    hollow = ellipsoid(grid, (20, -18, -48), (40, 47, 53))
    flank = ellipsoid(grid, (66, -52, -66), (33, 31, 58))
    organ = inside(organ, frame.cavity + 2.5, frame.below + 3, -hollow, -flank)
    canvas.paint(organ, build.liver_hu + 4 * grid.noise(rng, 14.0), 1)
    for step, radius in ((30.0, 0.17), (18.0, 0.12)):
        line = np.hypot(grid.noise(rng, step), grid.noise(rng, step))
        vessel = (line - radius) * step * 0.75
        canvas.paint(inside(vessel, organ + 7), build.liver_hu + 60, None)
    bladder = ellipsoid(grid, (52, 52, -46), (15, 22, 22), 20.0)
    canvas.paint(bladder, 45.0)
    canvas.paint(bladder + 2.4, WATER)
    return organ


def paint_left_upper(
    rng: np.random.Generator, grid: Grid, canvas: Canvas, build: Build, frame: Frame
) -> None:
    """Spleen, stomach and pancreas."""
    s = build.spleen
    room = inside(frame.cavity + 2.5, frame.below + 3)
    at = (-99 + rng.normal(0, 5), -34 + rng.normal(0, 6), -8 + rng.normal(0, 7))
    spleen: Array = ellipsoid(grid, at, (42 * s, 54 * s, 52 * s), -16.0) + 3 * grid.noise(rng, 30.0)
    bite = ellipsoid(grid, (at[0] + 40 * s, at[1] + 18, at[2]), (32 * s, 44 * s, 60))
    spleen = inside(spleen, room, -bite)
    canvas.paint(spleen, build.spleen_hu + 3 * grid.noise(rng, 12.0), 2)
    s = build.stomach
    stomach = blend(
        ellipsoid(grid, (-58, 22, 6), (38 * s, 40 * s, 40 * s), 20.0),
        tube(grid, (-50, 45, -18), (12, 58, -34), 17 * s),
        16.0,
    )
    stomach = inside(stomach, room, 3.0 - spleen) + 2 * grid.noise(rng, 24.0)
    # The left lobe of the liver lies over the stomach.
    kept = canvas.label == 1
    image = canvas.image.copy()
    canvas.paint(stomach, 80.0)
    canvas.paint(stomach + 4, 30 + 10 * grid.noise(rng, 9.0))
    canvas.paint(inside(stomach + 4.2, 26 + 8 * (1 - s) - grid.y), -930.0)
    canvas.image[kept], canvas.label[kept] = image[kept], 1
    for start, end, radius in (
        ((26, 4, -44), (4, 22, -34), 14.0),
        ((4, 22, -34), (-34, 6, -24), 11.0),
        ((-34, 6, -24), (-72, -16, -12), 9.5),
    ):
        pancreas = tube(grid, start, end, radius) + 2.4 * grid.noise(rng, 9.0)
        free = np.where(canvas.label > 0, np.float32(9.0), pancreas)
        canvas.paint(free, 92.0)


def paint_kidneys(rng: np.random.Generator, grid: Grid, canvas: Canvas, build: Build) -> None:
    """Two kidneys with cortex, medulla and sinus, each in its bed of fat."""
    for side, height in ((1, -66.0), (-1, -54.0)):
        s = build.kidney * rng.uniform(0.93, 1.07)
        at = (side * (63 + rng.normal(0, 3)), -47 + rng.normal(0, 3), height + rng.normal(0, 7))
        turn = -side * rng.uniform(8, 18)
        kidney = ellipsoid(grid, at, (29 * s, 26 * s, 52 * s), turn) + 1.4 * grid.noise(rng, 20.0)
        notch = ellipsoid(grid, (at[0] - side * 26 * s, at[1] + 8, at[2]), (20 * s, 12 * s, 15 * s))
        kidney = inside(kidney, -notch)
        canvas.paint(kidney - 8, FAT)
        canvas.paint(kidney, build.kidney_hu, 3)
        pyramids = 0.5 + 0.5 * np.tanh(3 * grid.noise(rng, 8.0) + 0.8)
        canvas.paint(kidney + 7.5, build.kidney_hu - 52 * pyramids, 3)
        sinus = ellipsoid(grid, (at[0] - side * 12 * s, at[1] + 4, at[2]), (14, 9, 24 * s), turn)
        canvas.paint(sinus, -55 + 55 * grid.noise(rng, 8.0), 3)


def paint_vessels(grid: Grid, canvas: Canvas) -> None:
    """Aorta and inferior vena cava."""
    canvas.paint(tube(grid, (-20, -36, 150), (-14, -28, 20), 12.5), BLOOD + 22)
    canvas.paint(tube(grid, (-14, -28, 20), (-9, -30, -150), 10.5), BLOOD + 22)
    canvas.paint(tube(grid, (22, -22, 30), (19, -29, -150), 11.5), BLOOD)
    canvas.paint(tube(grid, (22, -20, -20), (42, 2, 0), 8.0), BLOOD + 5)


def paint_lesions(rng: np.random.Generator, grid: Grid, canvas: Canvas, liver: Array) -> int:
    """One to three dark lesions in the liver and up to two nodules in the lungs."""
    drawn = 0
    lungs = canvas.label == 4
    deep_lung = lungs & (gaussian_filter(lungs.astype(np.float32), 3) > 0.9)
    deep_liver = (canvas.label == 1) & (liver < -14)
    for room, count, value, rim, low, high in (
        (deep_liver, int(rng.integers(1, 4)), 48.0, 74.0, 6.5, 13.0),
        (deep_lung, int(rng.integers(0, 3)), 42.0, 42.0, 4.5, 8.5),
    ):
        places = np.argwhere(room)
        for _ in range(count if len(places) else 0):
            i, j, k = places[int(rng.integers(len(places)))]
            at = (grid.x[i, j, k], grid.y[i, j, k], grid.z[i, j, k])
            radius = rng.uniform(low, high)
            radii = [float(radius * share) for share in rng.uniform(0.85, 1.15, 3)]
            shape = ellipsoid(grid, at, radii) + grid.noise(rng, 8.0)
            canvas.paint(shape, rim, 6)
            canvas.paint(shape + 2.5, value + 6 * grid.noise(rng, 8.0), 6)
            drawn += 1
    return drawn
