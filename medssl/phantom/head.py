"""A head-like T1-weighted MR: scalp, skull, folded cortex, ventricles, hippocampi, cerebellum.

Intensities are relative (white matter 1) until the scanner's gain is applied. All lengths are in mm
in the head's own frame: +x right, +y front, +z up.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from medssl.phantom.fields import Array, Canvas, Grid, blend, ellipsoid, inside, tube

LABEL_NAMES = {1: "hippocampi", 2: "ventricles", 3: "lesion"}

FLUID, GREY, WHITE, FATTY, BONE, MUSCLE = 0.20, 0.62, 1.0, 1.25, 0.10, 0.52


def paint_head(rng: np.random.Generator, grid: Grid) -> tuple[Canvas, int]:
    """Draw one head; returns the canvas (image in arbitrary units, labels) and the lesion count."""
    grid.warp(rng, 60.0, 2.6)
    size = rng.uniform(0.94, 1.05, 3)
    grid.x, grid.y, grid.z = grid.x / size[0], grid.y / size[1], (grid.z - 8) / size[2]
    canvas = Canvas(grid, 0.015)
    skull = _skull(rng, grid, canvas)
    _face(rng, grid, canvas, skull)
    brain = _brain(rng, grid, canvas, skull)
    _hindbrain(rng, grid, canvas)
    _deep_nuclei(rng, grid, canvas)
    _ventricles(rng, grid, canvas)
    _hippocampi(rng, grid, canvas)
    lesions = _lesions(rng, grid, canvas, brain)
    _scanner(rng, grid, canvas)
    return canvas, lesions


def _skull(rng: np.random.Generator, grid: Grid, canvas: Canvas) -> Array:
    """Scalp, skull with its marrow, and the fluid under it; returns the inner table's distance."""
    vault = ellipsoid(grid, (0, -8, 2), (69, 84, 70))
    brow = np.clip(grid.y / 80.0, 0, 1) * np.abs(grid.x) * 0.10
    step = 1 / (1 + np.exp(-(grid.y - 28) / 5.0))
    bowl = (
        7 * ((np.abs(grid.x) - 30 + 14 * step) / 26) ** 2 + 7 * ((grid.y - 2 - 44 * step) / 26) ** 2
    )
    base = (-50 + 22 * step + np.clip(bowl, 0, 16) - grid.z) * 0.85
    fossa = ellipsoid(grid, (0, -50, -36), (53, 37, 28))
    inner = blend(inside(vault + brow, base), fossa, 10.0)
    thick = 6.0 + 0.8 * grid.noise(rng, 40.0)
    scalp = 5.5 + 1.2 * grid.noise(rng, 40.0)
    canvas.paint(inner - thick - scalp, 0.55)
    canvas.paint(inner - thick - scalp + 2.0, FATTY)
    canvas.paint(inner - thick, BONE)
    marrow = np.abs(inner - thick / 2) - 1.3
    canvas.paint(marrow, 0.55 + 0.15 * grid.noise(rng, 12.0))
    canvas.paint(inner, FLUID)
    return inner


def _face(rng: np.random.Generator, grid: Grid, canvas: Canvas, skull: Array) -> None:
    """Neck, face, eyes in their fat, and air in the sinuses; only where there is no skull."""
    free = 7.0 - skull
    neck = blend(
        ellipsoid(grid, (0, -30, -90), (56, 58, 62)),
        ellipsoid(grid, (0, 42, -66), (56, 50, 66)),
        24.0,
    )
    canvas.paint(inside(neck, free), FATTY * 0.9)
    flesh = 0.5 + 0.09 * grid.noise(rng, 9.0)
    canvas.paint(inside(neck + 6, free), flesh)
    streaks = np.abs(grid.noise(rng, 11.0)) * 8 - 1.2
    canvas.paint(inside(neck + 6, free, streaks), FATTY * 0.8)
    for side in (-1, 1):
        orbit = ellipsoid(grid, (side * 31, 60, -42), (18, 24, 17))
        canvas.paint(inside(orbit, 2.0 - skull), FATTY)
        canvas.paint(ellipsoid(grid, (side * 32, 70, -42), (12.5, 12.5, 12.5)), 0.50)
        canvas.paint(ellipsoid(grid, (side * 32, 70, -42), (11, 11, 11)), 0.18)
        canvas.paint(tube(grid, (side * 31, 62, -42), (side * 12, 32, -40), 2.0), 0.55)
        antrum = ellipsoid(grid, (side * 27, 56, -76), (15, 17, 17)) + 2 * grid.noise(rng, 12.0)
        canvas.paint(inside(antrum, free), 0.02)
    canvas.paint(inside(ellipsoid(grid, (0, 62, -54), (9, 26, 24)), free), 0.06)
    canvas.paint(inside(ellipsoid(grid, (0, 36, -46), (13, 10, 9)), free), 0.03)
    canvas.paint(inside(tube(grid, (0, 6, -70), (0, 2, -140), 11), free), 0.03)


def _brain(rng: np.random.Generator, grid: Grid, canvas: Canvas, skull: Array) -> Array:
    """The folded cortex: sulci are the zero sheets of smooth noise, reaching in from outside."""
    atrophy = rng.uniform(0.6, 1.6)
    tent = -27 + 12 * np.exp(-((grid.x / 26) ** 2) - ((grid.y + 30) / 22) ** 2)
    behind = inside(grid.y + 26, (grid.z - tent) * 0.9)
    hemisphere = inside(skull + 1.6, -behind)
    valley = np.abs(grid.x) - 0.5 - 0.5 * atrophy
    depth = -hemisphere
    canvas.paint(hemisphere, GREY)
    reach = np.clip(1 - depth / 26.0, 0, 1)
    sheets = np.full(grid.shape, 40.0, dtype=np.float32)
    for step, mm in ((13.0, 11.0), (9.5, 8.0)):
        sheet = np.abs(grid.noise(rng, step)) * mm + 22 * np.clip(1 - reach * 2.2, 0, 1)
        sheets = np.minimum(sheets, sheet)
    midline = np.where(np.abs(grid.z + 5) + np.abs(grid.y) * 0.3 > 28, np.abs(grid.x), 40.0)
    ribbon = np.minimum(np.minimum(sheets, depth), midline)
    white = 4.2 + 0.5 * grid.noise(rng, 20.0) - ribbon
    canvas.paint(inside(white, hemisphere), WHITE)
    sulci = sheets - (0.45 + 0.55 * atrophy) * (0.4 + reach)
    canvas.paint(inside(sulci, hemisphere), FLUID + 0.08)
    fissure = inside(valley, 24.0 - np.abs(grid.z + 5) - np.abs(grid.y) * 0.3, skull)
    canvas.paint(fissure, FLUID + 0.1)
    for side in (-1, 1):
        sylvian = ellipsoid(grid, (side * 47, 10, -10), (14, 24, 2.0 + atrophy))
        canvas.paint(inside(sylvian, hemisphere), FLUID + 0.05)
        insula = ellipsoid(grid, (side * 35, 8, -6), (2.5, 20, 14))
        canvas.paint(insula, GREY)
    return hemisphere


def _hindbrain(rng: np.random.Generator, grid: Grid, canvas: Canvas) -> None:
    """Cerebellum with its leaves, and the brainstem."""
    cerebellum = blend(
        ellipsoid(grid, (-21, -53, -40), (28, 26, 20)),
        ellipsoid(grid, (21, -53, -40), (28, 26, 20)),
        10.0,
    )
    canvas.paint(cerebellum - 2.0, FLUID)
    canvas.paint(cerebellum, GREY)
    leaves = np.sin((cerebellum * 0.35 + grid.z * 0.9 + 1.3 * grid.noise(rng, 10.0)) * 0.95)
    canvas.paint(inside(cerebellum + 2, (leaves - 0.15)), GREY + 0.16)
    canvas.paint(cerebellum + 11, WHITE * 0.95)
    canvas.paint(ellipsoid(grid, (0, -42, -40), (7, 8, 10)), FLUID)
    canvas.paint(ellipsoid(grid, (0, -22, -34), (15, 13, 17)), WHITE * 0.93)
    canvas.paint(tube(grid, (0, -24, -40), (0, -34, -120), 9.0), WHITE * 0.92)
    canvas.paint(inside(ellipsoid(grid, (0, -14, -16), (17, 13, 12))), WHITE * 0.95)


def _deep_nuclei(rng: np.random.Generator, grid: Grid, canvas: Canvas) -> None:
    """Corpus callosum, thalamus, putamen and caudate."""
    canvas.paint(ellipsoid(grid, (0, -4, 23), (15, 38, 4)), WHITE * 1.02)
    for side in (-1, 1):
        jitter = rng.normal(0, 1, 3)
        for centre, radii, value in (
            ((12, -12, 4), (9, 14, 9), GREY + 0.13),
            ((25, 6, 4), (5.5, 15, 9), GREY + 0.04),
            ((13, 20, 10), (5, 12, 9), GREY),
        ):
            at = (side * centre[0] + jitter[0], centre[1] + jitter[1], centre[2] + jitter[2])
            canvas.paint(ellipsoid(grid, at, radii) + 0.8 * grid.noise(rng, 10.0), value)


def _ventricles(rng: np.random.Generator, grid: Grid, canvas: Canvas) -> None:
    """Lateral ventricles with their horns, and the third ventricle; label 2."""
    wide = rng.uniform(0.7, 1.7)
    for side in (-1, 1):
        s = wide * rng.uniform(0.9, 1.1)
        horn = tube(grid, (side * 7, 26, 12), (side * 9, -8, 19), 3.6 * s)
        back = tube(grid, (side * 9, -8, 19), (side * 24, -36, 8), 4.4 * s)
        low = tube(grid, (side * 24, -36, 6), (side * 32, -10, -18), 2.2 * s + 0.8)
        shape = blend(blend(horn, back, 6.0), low, 5.0) + 0.7 * grid.noise(rng, 12.0)
        canvas.paint(shape, FLUID, 2)
        plexus = tube(grid, (side * 18, -26, 14), (side * 23, -34, 9), 1.6)
        canvas.paint(inside(plexus, shape + 1), 0.6, None)
    third = ellipsoid(grid, (0, -4, 2), (1.6 + 1.2 * wide, 14, 10))
    canvas.paint(third, FLUID, 2)


def _hippocampi(rng: np.random.Generator, grid: Grid, canvas: Canvas) -> None:
    """Two curved grey bodies in the medial temporal lobes; label 1."""
    for side in (-1, 1):
        s = rng.uniform(0.85, 1.15)
        at = rng.normal(0, 1.2, 3)
        x, y, z = side * 24 + at[0], -18 + at[1], -19 + at[2]
        front = ellipsoid(grid, (x, y + 11 * s, z - 3), (8.5 * s, 9 * s, 6.5 * s))
        tail = tube(grid, (x, y + 8, z - 2), (x + side * 1.5, y - 16 * s, z + 7), 5.0 * s)
        shape = blend(front, tail, 6.0) + 0.6 * grid.noise(rng, 10.0)
        canvas.paint(shape - 2.2, WHITE * 0.95)
        canvas.paint(shape, GREY + 0.03, 1)


def _lesions(rng: np.random.Generator, grid: Grid, canvas: Canvas, brain: Array) -> int:
    """One or two dark lesions in the deep white matter; label 3."""
    deep = (brain < -14) & (canvas.image > 0.93) & (canvas.label == 0) & (grid.z > -2)
    places = np.argwhere(deep)
    count = int(rng.integers(1, 3)) if len(places) else 0
    for _ in range(count):
        i, j, k = places[int(rng.integers(len(places)))]
        at = (grid.x[i, j, k], grid.y[i, j, k], grid.z[i, j, k])
        radius = rng.uniform(4.0, 7.5)
        shape = ellipsoid(grid, at, list(radius * rng.uniform(0.8, 1.2, 3))) + 0.7 * grid.noise(
            rng, 8.0
        )
        canvas.paint(shape, 0.42 + 0.05 * grid.noise(rng, 8.0), 3)
        canvas.paint(shape + 2.8, 0.30, 3)
    return count


def _scanner(rng: np.random.Generator, grid: Grid, canvas: Canvas) -> None:
    """Texture, coil sensitivity, blur, gain and Rician noise."""
    tissue = canvas.image * (1 + 0.025 * grid.texture(rng, 3.0))
    coil = np.exp(0.13 * grid.noise(rng, 120.0) - 0.0012 * np.abs(grid.z))
    sharp = gaussian_filter(tissue * coil, [0.4, 0.4, 0.3])
    sigma = 0.028
    real = sharp + sigma * rng.standard_normal(grid.shape, dtype=np.float32)
    imaginary = sigma * rng.standard_normal(grid.shape, dtype=np.float32)
    gain = rng.uniform(300, 1100)
    canvas.image = np.hypot(real, imaginary) * gain
