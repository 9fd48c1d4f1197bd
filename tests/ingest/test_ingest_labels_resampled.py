"""Labels drawn on slices that are resampled: on the image, and back on the slices."""

from __future__ import annotations

import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medssl.ingest.run import ingest
from medssl.store import Store
from medssl.store.export import export

sys.path.insert(0, str(Path(__file__).parent))
from label_files import AXIAL, oblique, save, segmentation, structure_set, write_series

SHAPE, SPACING = (40, 36, 17), (1.1, 0.9, 2.0)
EVEN = list(range(17))
UNEVEN = [0, 1.25, 2.65, 4.25, 5.5, 7, 8.25, 9.5, 10.9, 12.5, 13.6, 15.0]
TURNED = oblique(20, -35, 70)
RADIUS = 11.0  # mm
LEVEL = 500

# Tilts by parts of a pixel; by exactly half a pixel, where two voxels are equally near; uneven
# spacing; both.
CASES = [
    (AXIAL, EVEN, (0.0, 0.667)),
    (AXIAL, EVEN, (0.5, -1.5)),
    (TURNED, EVEN, (-0.3, 0.41)),
    (AXIAL, UNEVEN, (0.0, 0.0)),
    (TURNED, UNEVEN, (0.25, -0.5)),
]


def series_of(folder, orientation, heights, shear):
    """Slices through a ball of 1000 in a background of 0, with an edge as soft as a scanner's."""
    row, column = np.reshape(orientation, (2, 3))
    sides = np.stack([row, column, np.cross(row, column)], axis=1) * SPACING
    middle = (np.array(SHAPE[:2]) - 1) / 2 + 8 * np.array(shear)
    centre = sides @ [*middle, 8]

    def ball(points):
        distance = np.linalg.norm(points - centre, axis=1)
        return np.rint(1000 / (1 + np.exp((distance - RADIUS) / 0.4)))

    shape = (*SHAPE[:2], len(heights))
    uneven = heights if heights is UNEVEN else ()
    return write_series(
        folder,
        shape,
        spacing=SPACING,
        orientation=orientation,
        origin=(0.0, 0.0, 0.0),
        shear=shear,
        heights=uneven,
        values=ball,
    )


def stack(series):
    """(column, row, slice) as it was written."""
    return np.stack([data.pixel_array.T for data in series.slices], axis=-1)


def circles(series):
    """The ball's outline on each slice, as contours of a structure set."""
    image = stack(series).astype(float)
    found = []
    angles = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    for index in range(image.shape[2]):
        mask = image[..., index] > LEVEL
        if mask.sum() < 4:
            continue
        middle = np.argwhere(mask).mean(axis=0)
        # Each ray as far as the image is above the level.
        steps = np.linspace(0, 16, 400)
        rays = middle + steps[:, None, None] * np.stack([np.cos(angles), np.sin(angles)], -1)
        at = np.clip(np.rint(rays).astype(int), 0, np.array(SHAPE[:2]) - 1)
        inside = mask[at[..., 0], at[..., 1]]
        last = inside.shape[0] - 1 - inside[::-1].argmax(axis=0)
        found.append((index, rays[last, np.arange(len(angles))]))
    return found


def dice(one, two):
    return 2 * (one & two).sum() / (one.sum() + two.sum())


def exported(tmp_path):
    """The label map back on the slices, (column, row, slice)."""
    export(tmp_path / "store", tmp_path / "out", original_grid=True)
    (file,) = (tmp_path / "out" / "labels").glob("*.nii.gz")
    return np.asarray(nib.load(file).dataobj)


@pytest.mark.parametrize("kind", ["seg", "rtstruct"])
@pytest.mark.parametrize(("orientation", "heights", "shear"), CASES)
def test_a_ball_drawn_on_the_slices_lies_on_the_ball_of_the_store(
    tmp_path, kind, orientation, heights, shear
):
    series = series_of(tmp_path / "in", orientation, heights, shear)
    if kind == "seg":
        save(segmentation(series, {"ball": stack(series) > LEVEL}), tmp_path / "in" / "label")
    else:
        save(structure_set(series, {"ball": circles(series)}), tmp_path / "in" / "label")
    allow = ["SPACING_UNEVEN"] if heights is UNEVEN else []
    summary = ingest(tmp_path / "in", tmp_path / "store", allow=allow)
    assert summary.counts == {("used", ""): len(heights) + 1}
    store = Store.open(tmp_path / "store")
    volume = store[next(iter(store))]
    assert volume.row["resampled"]
    label, image = volume.label()[0] > 0, volume.array()[0] > LEVEL
    assert label.shape == image.shape
    assert dice(label, image) > 0.95
    back = exported(tmp_path)
    want = stack(series) > LEVEL
    if kind == "seg":
        np.testing.assert_array_equal(back > 0, want)
    else:
        assert dice(back > 0, want) > 0.95


@pytest.mark.parametrize(("orientation", "heights", "shear"), CASES)
def test_every_voxel_of_a_label_map_goes_back(tmp_path, orientation, heights, shear):
    series = series_of(tmp_path / "in", orientation, heights, shear)
    shape = (*SHAPE[:2], len(heights))
    noise = np.random.default_rng(0).integers(0, 3, shape)
    masks = {"one": noise == 1, "two": noise == 2}
    save(segmentation(series, masks), tmp_path / "in" / "label")
    allow = ["SPACING_UNEVEN"] if heights is UNEVEN else []
    ingest(tmp_path / "in", tmp_path / "store", allow=allow)
    np.testing.assert_array_equal(exported(tmp_path), noise)
