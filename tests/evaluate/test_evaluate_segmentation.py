"""Dice, NSD and HD95 against float64 loops, SimpleITK and MONAI."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from medssl.evaluate.segmentation import segmentation_metrics, summarise, surface


def box(shape, start, size, value=1):
    labels = np.zeros(shape, np.uint8)
    labels[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))] = value
    return labels


def blob(shape, seed):
    """A ragged random label map with two classes."""
    generator = np.random.default_rng(seed)
    field = generator.normal(size=shape)
    for axis in range(3):
        field = field + np.roll(field, 1, axis) + np.roll(field, -1, axis)
    return (field > np.quantile(field, 0.75)).astype(np.uint8) + (
        field > np.quantile(field, 0.92)
    ).astype(np.uint8)


def loop_elements(mask, spacing):
    """Surface elements by nested loops: every 2x2x2 group that holds both inside and outside."""
    padded = np.pad(mask, 1)
    points = []
    for corner in itertools.product(*(range(n - 1) for n in padded.shape)):
        values = {
            bool(padded[tuple(c + o for c, o in zip(corner, offset, strict=True))])
            for offset in itertools.product((0, 1), repeat=3)
        }
        if len(values) == 2:
            points.append([(c - 0.5) * s for c, s in zip(corner, spacing, strict=True)])
    return np.array(points, np.float64)


def test_identical_maps_are_perfect():
    labels = blob((9, 8, 7), 0)
    for metrics in segmentation_metrics(labels, labels, (1, 2, 3), (1, 2)).values():
        assert metrics.as_dict() == {"dice": 1.0, "nsd": 1.0, "hd95_mm": 0.0}


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_shifted_box_is_off_by_the_shift_in_mm(axis):
    spacing = (0.5, 1.5, 4.0)
    start = [4, 4, 4]
    truth = box((16, 16, 16), start, (6, 6, 6))
    start[axis] += 3
    shifted = box((16, 16, 16), start, (6, 6, 6))
    metrics = segmentation_metrics(shifted, truth, spacing, (1,), tolerance_mm=0.1)[1]
    assert metrics.dice == 0.5
    assert metrics.hd95_mm == pytest.approx(3 * spacing[axis], abs=1e-12)


def test_surface_area_of_a_flat_slab_is_exact():
    # one column of a slab through the whole grid: its two faces, spacing 2 x 3 in plane
    points, areas = surface(np.ones((40, 40, 1), bool), (2.0, 3.0, 5.0))
    inner = (points[:, 0] > 0) & (points[:, 0] < 78) & (points[:, 1] > 0) & (points[:, 1] < 117)
    assert inner.sum() == 2 * 39 * 39
    np.testing.assert_allclose(areas[inner], 6.0, rtol=1e-6)


def test_area_of_an_anisotropic_box_is_near_the_analytic_area():
    # 20 x 30 x 24 mm of 40 x 15 x 6 voxels; marching cubes rounds the edges off
    _, areas = surface(np.ones((40, 15, 6), bool), (0.5, 2.0, 4.0))
    assert areas.sum() == pytest.approx(2 * (20 * 30 + 30 * 24 + 20 * 24), rel=0.05)


@pytest.mark.parametrize("seed", [0, 1])
def test_distances_match_float64_loops(seed):
    spacing = (0.7, 1.3, 3.0)
    prediction, truth = blob((7, 6, 5), seed), blob((7, 6, 5), seed + 10)
    found = segmentation_metrics(prediction, truth, spacing, (1, 2), tolerance_mm=1.5)
    for c in (1, 2):
        a, b = loop_elements(prediction == c, spacing), loop_elements(truth == c, spacing)
        table = np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1))
        (points_a, area_a), (points_b, area_b) = (
            surface(m == c, spacing) for m in (prediction, truth)
        )
        np.testing.assert_allclose(points_a, a, atol=1e-12)
        np.testing.assert_allclose(points_b, b, atol=1e-12)
        to_b, to_a = table.min(1), table.min(0)
        nsd = (area_a[to_b <= 1.5].sum() + area_b[to_a <= 1.5].sum()) / (
            area_a.sum() + area_b.sum()
        )
        assert found[c].nsd == pytest.approx(nsd, abs=1e-12)
        worst = []
        for distances, areas in ((to_b, area_a), (to_a, area_b)):
            pairs, covered = sorted(zip(distances, areas, strict=True)), 0.0
            for distance, area in pairs:
                covered += area / areas.sum()
                if covered >= 0.95:
                    worst.append(distance)
                    break
        assert found[c].hd95_mm == pytest.approx(max(worst), abs=1e-9)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_dice_matches_simpleitk(seed):
    sitk = pytest.importorskip("SimpleITK")
    prediction, truth = blob((9, 8, 7), seed), blob((9, 8, 7), seed + 10)
    oracle = sitk.LabelOverlapMeasuresImageFilter()
    oracle.Execute(sitk.GetImageFromArray(truth), sitk.GetImageFromArray(prediction))
    found = segmentation_metrics(prediction, truth, (1, 1, 1), (1, 2))
    for c in (1, 2):
        assert found[c].dice == pytest.approx(oracle.GetDiceCoefficient(c), abs=1e-12)


def test_distance_of_boxes_matches_simpleitk_hausdorff():
    sitk = pytest.importorskip("SimpleITK")
    spacing = (0.8, 1.1, 2.5)
    truth = box((20, 18, 16), (3, 4, 5), (5, 6, 7))
    prediction = box((20, 18, 16), (10, 4, 5), (5, 6, 7))
    images = []
    for labels in (truth, prediction):
        image = sitk.GetImageFromArray(labels.transpose(2, 1, 0))
        image.SetSpacing(spacing)
        images.append(image)
    oracle = sitk.HausdorffDistanceImageFilter()
    oracle.Execute(*images)
    found = segmentation_metrics(prediction, truth, spacing, (1,))[1]
    assert found.hd95_mm == pytest.approx(oracle.GetHausdorffDistance(), rel=1e-6)


def monai_one_hot(labels, classes):
    torch = pytest.importorskip("torch")
    return torch.stack([torch.from_numpy(labels == c).float() for c in range(classes + 1)])[None]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.6, 1.7, 3.0)])
def test_all_metrics_match_monai(spacing, seed):
    """Dice and NSD are MONAI's own; HD95 is the percentile, weighted by area, of the distances of
    MONAI's surface elements (its own HD95 counts voxels on the surface instead)."""
    from monai.metrics import compute_dice, compute_surface_dice
    from monai.metrics.utils import get_edge_surface_distance

    shape = np.random.default_rng(seed).integers(6, 14, 3)
    prediction, truth = blob(shape, seed), blob(shape, seed + 10)
    hot = [monai_one_hot(m, 2) for m in (prediction, truth)]
    tolerance = {1: 1.2, 2: 0.7}
    found = segmentation_metrics(prediction, truth, spacing, (1, 2), tolerance)
    dice = compute_dice(*hot, include_background=False)[0].tolist()
    nsd = compute_surface_dice(*hot, [1.2, 0.7], spacing=spacing, use_subvoxels=True)[0].tolist()
    for c in (1, 2):
        edges, distances, areas = get_edge_surface_distance(
            hot[0][0, c], hot[1][0, c], spacing=spacing, use_subvoxels=True, symmetric=True
        )
        worst = []
        for edge, distance, area in zip(edges, distances, areas, strict=True):
            order = distance.argsort()
            covered = area[edge.bool()][order].double().cumsum(0)
            worst.append(float(distance[order][int((covered < 0.95 * covered[-1]).sum())]))
        assert found[c].dice == pytest.approx(dice[c - 1], abs=1e-6)
        assert found[c].nsd == pytest.approx(nsd[c - 1], abs=1e-6)
        assert found[c].hd95_mm == pytest.approx(max(worst), rel=1e-6)


def test_what_monai_says_of_empty_maps():
    from monai.metrics import compute_dice, compute_surface_dice

    full, none = box((6, 6, 6), (1, 1, 1), (3, 3, 3)), np.zeros((6, 6, 6), np.uint8)
    for prediction, truth in ((full, none), (none, full), (none, none)):
        hot = [monai_one_hot(m, 1) for m in (prediction, truth)]
        found = segmentation_metrics(prediction, truth, (1, 1, 1), (1,))[1]
        nsd = compute_surface_dice(*hot, [1.0], use_subvoxels=True)
        assert found.nsd == pytest.approx(float(nsd), nan_ok=True)
        if truth.any():  # MONAI's Dice of a class that is not there is nan, or 1, by option
            assert found.dice == float(compute_dice(*hot, include_background=False))


def test_every_class_may_have_its_own_tolerance():
    truth = box((16, 16, 16), (4, 4, 4), (6, 6, 6)) + box((16, 16, 16), (12, 4, 4), (3, 6, 6), 2)
    shifted = np.roll(truth, 1, axis=1)
    together = segmentation_metrics(shifted, truth, (1, 1, 1), (1, 2), {1: 0.5, 2: 1.0})
    assert together[2].nsd == 1.0
    assert together[1].nsd < 1.0
    alone = segmentation_metrics(shifted, truth, (1, 1, 1), (1,), 0.5)
    assert together[1] == alone[1]
    with pytest.raises(ValueError, match=r"\[2\] lack"):
        segmentation_metrics(shifted, truth, (1, 1, 1), (1, 2), {1: 0.5})


def test_other_labels_and_unsorted_classes_change_nothing():
    prediction, truth = blob((9, 8, 7), 0), blob((9, 8, 7), 5)
    expected = segmentation_metrics(prediction, truth, (1, 2, 3), (1, 2))
    wide = [m.astype(np.int32) * 300 + 7 * (m == 0) for m in (prediction, truth)]
    found = segmentation_metrics(*wide, (1, 2, 3), (600, 300))
    assert {c // 300: v for c, v in found.items()} == expected
    alone = segmentation_metrics(prediction == 2, truth == 2, (1, 2, 3), (1,))
    assert alone[1] == expected[2]
    assert segmentation_metrics(prediction, truth, (1, 2, 3), ()) == {}


def test_empty_maps_are_scored_as_documented():
    shape, spacing = (10, 20, 30), (1.0, 2.0, 0.5)
    full, none = box(shape, (1, 1, 1), (3, 3, 3)), np.zeros(shape, np.uint8)
    both = segmentation_metrics(none, none, spacing, (1,))[1]
    assert all(math.isnan(v) for v in both.as_dict().values())
    assert both.empty == "both"
    diagonal = math.sqrt(10**2 + 40**2 + 15**2)
    for prediction, truth, name in ((none, full, "prediction"), (full, none, "truth")):
        metrics = segmentation_metrics(prediction, truth, spacing, (1,))[1]
        assert (metrics.dice, metrics.nsd, metrics.empty) == (0.0, 0.0, name)
        assert metrics.hd95_mm == pytest.approx(diagonal)


def test_averages_leave_undefined_cases_out_and_keep_missed_ones():
    full, none = box((5, 5, 5), (1, 1, 1), (2, 2, 2)), np.zeros((5, 5, 5), np.uint8)
    cases = [
        segmentation_metrics(p, t, (1, 1, 1), (1,))
        for p, t in ((full, full), (none, full), (none, none))
    ]
    summary = summarise(cases)[1]
    assert (summary["dice"], summary["cases"], summary["missed"]) == (0.5, 2, 1)


def test_a_label_at_the_image_border_has_a_closed_surface():
    inside = box((12, 12, 12), (4, 4, 4), (4, 4, 4))
    border = box((12, 12, 12), (0, 4, 4), (4, 4, 4))
    areas = [surface(m.astype(bool), (1.0, 1.0, 1.0))[1].sum() for m in (inside, border)]
    assert areas[0] == pytest.approx(areas[1])


def test_two_dimensions():
    truth, prediction = np.zeros((12, 12), int), np.zeros((12, 12), int)
    truth[2:8, 2:8] = 1
    prediction[2:8, 4:10] = 1
    metrics = segmentation_metrics(prediction, truth, (1.0, 0.5), (1,), tolerance_mm=0.2)[1]
    assert metrics.dice == pytest.approx(2 / 3)
    assert metrics.hd95_mm == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("shape", "spacing", "classes"),
    [
        ((4, 4, 5), (1, 1, 1), (1,)),
        ((4, 4, 4), (1, 1), (1,)),
        ((4, 4, 4), (1, 0, 1), (1,)),
        ((4, 4, 4), (1, 1, 1), (0,)),
    ],
)
def test_grids_that_do_not_fit_are_refused(shape, spacing, classes):
    with pytest.raises(ValueError, match="spacing"):
        segmentation_metrics(np.zeros((4, 4, 4), int), np.zeros(shape, int), spacing, classes)
