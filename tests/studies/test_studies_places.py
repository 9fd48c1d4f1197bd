from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from known_places import KnownPlaces

from medssl.bundle import InputContract
from medssl.evaluate.locate import locate
from medssl.store.intensity import IntensityContract, statistics
from medssl.studies import places
from medssl.studies.places import (
    CENTRE,
    FOUND,
    RANDOM,
    RELATIVE,
    centroids,
    located,
    measured,
    missed,
    without,
)

CODES = IntensityContract(scheme="range", low=0, high=10_000)
LABELS = {1: "one", 2: "two"}


def volume(name, shape, spots, spacing=(1.0, 2.0), seed=0):
    """A volume of numbered voxels; label k is the voxel spots[k - 1], which holds 1000 k."""
    count = int(np.prod(shape))
    numbers = np.random.default_rng(seed).permutation(count) * (9000 / count)
    array, label = numbers.reshape(1, *shape).astype(np.float32), np.zeros((1, *shape), np.uint8)
    for value, spot in enumerate(spots, start=1):
        array[(0, *spot)], label[(0, *spot)] = 9000 + 300 * value, value
    return SimpleNamespace(
        subject_id=name,
        spacing=spacing,
        row=statistics(array),
        array=lambda: array,
        label=lambda: label,
    )


@pytest.fixture
def bundle(monkeypatch):
    monkeypatch.setattr(places, "random_embedding", lambda *_: KnownPlaces(2))
    contract = InputContract(dims=2, patch_size=[8, 8], intensity=CODES)
    return SimpleNamespace(
        spec=SimpleNamespace(contract=contract), embedding=lambda: KnownPlaces(2)
    )


@pytest.fixture
def volumes():
    return [
        volume("a", (9, 9), [(1, 2), (7, 5)]),
        volume("b", (9, 12), [(4, 2), (6, 9)], seed=1),
        volume("c", (10, 8), [(2, 2), (8, 6)], seed=2),
    ]


def test_errors_are_in_mm_from_the_same_label(bundle, volumes):
    table = measured(bundle, volumes, LABELS, 0, "cpu").set_index(["from", "to", "label", "arm"])
    assert len(table) == 6 * 2 * 4
    found = table.xs(FOUND, level="arm")
    assert (found["error_mm"] == 0).all()
    assert (found["return_mm"] == 0).all()
    assert found["similarity"].to_numpy() == pytest.approx(1, abs=1e-4)
    assert (table.xs(RANDOM, level="arm")["error_mm"] == 0).all()
    # (1, 2) of 9 x 9 is (1, 2.83) of 9 x 12, and the label there is at (4, 2)
    error = table.loc[("a", "b", "one", RELATIVE), "error_mm"]
    assert error == pytest.approx(np.hypot(3, 2 * ((2.5 / 9) * 12 - 0.5 - 2)))
    assert table.loc[("a", "b", "one", CENTRE), "error_mm"] == pytest.approx(np.hypot(0, 2 * 3.5))
    assert np.isnan(table.loc[("a", "b", "one", CENTRE), "similarity"])


def test_many_at_once_are_what_locate_finds_one_by_one(bundle, volumes):
    scans = [places.Scan(v.array(), v.spacing, v.row) for v in volumes]
    points = [np.array([[3.0, 3.0], [5.0, 1.0]]) + k for k in range(3)]
    contract, network = bundle.spec.contract, KnownPlaces(2)
    together = located(network, scans, points, bundle, "cpu")
    for (i, j), found in together.items():
        alone = locate(network, scans[i], scans[j], points[i], contract)
        np.testing.assert_array_equal(found[:, :2], alone.voxels)
        np.testing.assert_allclose(found[:, 2], alone.similarity, atol=1e-6)
        np.testing.assert_allclose(found[:, 3], alone.return_mm)
    assert len(together) == 6


def test_a_labels_middle_is_its_mean_voxel():
    one = volume("a", (5, 5), [(1, 1), (3, 3)])
    one.label()[0, 1, 2] = 1
    np.testing.assert_array_equal(centroids(one, [1, 2]), [[1, 1.5], [3, 3]])


def test_what_was_cut_away_is_not_found_where_it_was_and_the_rest_is(bundle, volumes):
    table = missed(bundle, volumes, LABELS, "cpu")
    assert set(table["label"]) == {"one", "two"}
    gone, left = table[table["gone"]], table[~table["gone"]]
    assert len(gone) == 6 * 2
    assert (gone["similarity"] < 1 - 1e-6).all()
    assert (gone["return_mm"] > 0).mean() > 0.7
    # In a the two labels are so near that with the one the other is gone.
    assert sorted(set(left["to"])) == ["b", "c"]
    assert len(left) == 2 * 2 * 2
    assert left["similarity"].to_numpy() == pytest.approx(1, abs=1e-4)
    assert (left["return_mm"] == 0).all()


@pytest.mark.parametrize(
    ("place", "kept"), [((1, 2), (6, 12)), ((1, 9), (0, 6)), ((1, 5.5), (0, 2))]
)
def test_the_larger_part_that_lies_far_enough_is_kept(place, kept):
    scan = places.Scan(np.arange(9 * 12).reshape(1, 9, 12), (1.0, 2.0), {})
    found, part = without(scan, np.array(place))
    assert part == (1, *kept)
    np.testing.assert_array_equal(found.array, scan.array[:, :, slice(*kept)])
    assert np.abs(np.arange(12)[slice(*kept)] - place[1]).min() * 2.0 >= places.GONE
