"""The spaces of a torso: how big the patient is, the body wall, the cavity, the diaphragm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medssl.phantom.fields import Array, Grid, blend

AIR, FAT, WATER, MUSCLE, BLOOD = -1000.0, -102.0, 8.0, 58.0, 150.0
"""Hounsfield units of the plain tissues (portal venous phase: blood is enhanced)."""


@dataclass(frozen=True)
class Build:
    """What differs from patient to patient before any bending. Lengths in mm, values in HU."""

    half_width: float
    half_depth: float
    fat: float
    wall: float
    dome: float
    liver: float
    liver_hu: float
    spleen: float
    spleen_hu: float
    kidney: float
    kidney_hu: float
    stomach: float
    bone_hu: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Build:
        """One patient's build."""
        u = rng.uniform
        return cls(
            half_width=u(150, 176), half_depth=u(102, 122), fat=u(9, 24), wall=u(13, 18),
            dome=u(30, 50), liver=u(0.88, 1.1), liver_hu=u(95, 125), spleen=u(0.8, 1.2),
            spleen_hu=u(112, 140), kidney=u(0.88, 1.12), kidney_hu=u(150, 200),
            stomach=u(0.75, 1.15), bone_hu=u(150, 260),
        )  # fmt: skip


@dataclass(frozen=True)
class Frame:
    """The spaces the organs are placed in, as signed distances in mm."""

    body: Array
    cavity: Array
    below: Array
    """Negative under the diaphragm."""


def frame_of(rng: np.random.Generator, grid: Grid, build: Build) -> Frame:
    """Place the body, its cavity and the two domes of the diaphragm."""
    waist = 1.0 - 0.05 * np.clip(-grid.z / 110.0, 0, 1) + 0.03 * np.clip(grid.z / 110.0, 0, 1)
    a, b, power = build.half_width * waist, build.half_depth * waist, 2.35
    groove = 10.0 * np.exp(-((grid.x / 26.0) ** 2)) * np.clip(-grid.y / 60.0, 0, 1.4)
    y = grid.y * (1 + groove / 110.0)
    ax, ay = np.maximum(np.abs(grid.x), 1e-3), np.maximum(np.abs(y), 1e-3)
    rho = ((ax / a) ** power + (ay / b) ** power) ** (1 / power)
    slope = rho ** (1 - power) * np.hypot(
        ax ** (power - 1) / a**power, ay ** (power - 1) / b**power
    )
    body = (rho - 1) / np.maximum(slope, 1 / 250.0)
    layer = build.fat * (1 + 0.22 * np.clip(grid.noise(rng, 60.0), -2, 2)) + build.wall
    cavity = body + layer
    right = build.dome + 8 - 52 * (((grid.x - 72) / 92) ** 2 + ((grid.y - 12) / 92) ** 2)
    left = build.dome - 4 - 52 * (((grid.x + 68) / 88) ** 2 + ((grid.y - 8) / 90) ** 2)
    dome = -blend(-right, -left, 18.0)
    return Frame(body, cavity, grid.z - dome)
