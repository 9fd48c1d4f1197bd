import numpy as np
import pandas as pd
import pytest

from medssl.errors import MedsslError
from medssl.store.leakage import (
    FEWEST_TO_CENTRE,
    MOST_SUBJECTS,
    centred,
    exact_findings,
    refuse_separated,
    separated,
    suspicions,
    tie,
)
from medssl.store.splits import assign_splits
from medssl.store.thumbnails import Prints, describe_array


def manifest(*rows):
    """(subject, study, series, hash) -> a manifest; volumes are called v0, v1, ..."""
    table = pd.DataFrame(rows, columns=["subject_id", "study_id", "series_id", "sha256"])
    return table.assign(
        volume_id=[f"v{i}" for i in range(len(rows))],
        split="",
        dims=3,
        modality="MR",
        spacing=[[1.0, 1.0, 1.0]] * len(rows),
    )


APART = manifest(("a", "1", "1", "x"), ("a", "1", "2", "y"), ("b", "2", "3", "z"))


def test_subjects_that_share_nothing_are_not_found():
    assert exact_findings(APART) == []


@pytest.mark.parametrize(
    ("column", "kind"), [("study_id", "study"), ("series_id", "series"), ("sha256", "voxels")]
)
def test_every_shared_id_is_found_with_its_volumes(column, kind):
    table = APART.copy()
    table.loc[2, column] = table.loc[1, column]
    (finding,) = exact_findings(table)
    assert (finding.kind, finding.subjects, finding.exact) == (kind, ("a", "b"), True)
    # the study is that of both volumes of a; the first stands for it
    assert finding.volumes == ("v0" if kind == "study" else "v1", "v2")


def test_absent_ids_are_no_evidence():
    table = manifest(("a", "", None, ""), ("b", "", None, ""), ("c", float("nan"), None, None))
    assert exact_findings(table) == []


def test_the_same_id_within_a_subject_is_no_finding():
    assert exact_findings(manifest(("a", "1", "1", "x"), ("a", "1", "1", "x"))) == []


def test_findings_do_not_depend_on_the_order_of_rows():
    table = manifest(*((s, "1", str(i), str(i)) for i, s in enumerate("dacb")))
    expected = exact_findings(table)
    assert [f.subjects for f in expected] == [("a", "b"), ("a", "c"), ("a", "d")]
    for seed in range(5):
        assert exact_findings(table.sample(frac=1, random_state=seed)) == expected


def test_ties_are_transitive_and_named_by_their_first():
    groups = tie("edcba", [("c", "e"), ("b", "c"), ("d", "d")])
    assert groups == {"a": "a", "b": "b", "c": "b", "d": "d", "e": "b"}


def test_separation_is_refused_with_the_ids_and_the_reason():
    table = manifest(("a", "1", "1", "x"), ("b", "2", "2", "x"))
    findings = exact_findings(table)
    assert separated(findings, {"a": "test", "b": "test"}) == []
    with pytest.raises(MedsslError, match="SUBJECT_LEAK") as error:
        refuse_separated(findings, {"a": "train", "b": "test"})
    assert error.value.exit_code == 6
    assert error.value.where == "a and b, same voxels"


def test_every_verbs_split_keeps_exact_ties_together():
    rows = [(f"s{i}", f"t{i // 2}", f"e{i}", f"h{i}") for i in range(200)]
    split = assign_splits(manifest(*rows))
    assert all(split[f"s{i}"] == split[f"s{i + 1}"] for i in range(0, 200, 2))
    assert {name: list(split.values()).count(name) for name in set(split.values())} == {
        "train": 140,
        "validation": 20,
        "test": 40,
    }


def test_stated_splits_that_separate_one_subject_are_refused():
    table = manifest(("a", "1", "1", "x"), ("b", "2", "2", "x"))
    table["split"] = ["train", "test"]
    with pytest.raises(MedsslError, match="SUBJECT_LEAK"):
        assign_splits(table)


# --- suspicions ---------------------------------------------------------------------------------


def texture(seed, shape=(24, 20, 18)):
    """Smooth noise: an anatomy of its own for every seed."""
    from scipy import ndimage

    noise = np.random.default_rng(seed).normal(size=shape)
    return (1000 + 300 * ndimage.gaussian_filter(noise, 1.5) / 0.05)[None]


def look_at(volumes, subjects=None):
    rows = [
        (subjects[i] if subjects else f"s{i}", str(i), str(i), str(i)) for i in range(len(volumes))
    ]
    prints = Prints.join([describe_array(str(i), v) for i, v in enumerate(volumes)])
    return suspicions(manifest(*rows), prints)


def test_different_images_are_not_suspected():
    assert look_at([texture(seed) for seed in range(20)]) == ([], 0)


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        (lambda a: 3 * a + 7, {"thumbnail", "marks"}),
        (lambda a: a[:, ::-1], {"thumbnail", "marks"}),
        (lambda a: np.rint((a - a.min()) / np.ptp(a) * 255).astype(np.uint8), {"thumbnail"}),
        (lambda a: a[:, 4:, :16], {"marks"}),
        (lambda a: np.repeat(np.repeat(a, 2, 1), 2, 2), {"thumbnail"}),
    ],
    ids=["scaled", "flipped", "8 bits", "cropped", "resampled"],
)
def test_a_changed_copy_is_suspected(change, kinds):
    others = [texture(seed) for seed in range(2, 8)]
    found, crowded = look_at([texture(1), *others, change(texture(1))])
    assert crowded == 0
    assert {f.kind for f in found} >= kinds
    assert {f.subjects for f in found} == {("s0", "s7")}
    assert not any(f.exact for f in found)


def test_two_crops_of_one_scan_share_its_step():
    rng = np.random.default_rng(0)
    whole = (6.58217 * rng.integers(0, 400, (1, 40, 20, 20))).astype(np.float32)
    other = (6.58291 * rng.integers(0, 400, (1, 20, 20, 20))).astype(np.float32)
    found, _ = look_at([whole[:, :20], whole[:, 20:], other])
    assert [(f.kind, f.subjects) for f in found] == [("step", ("s0", "s1"))]
    assert found[0].score == pytest.approx(6.58217, rel=1e-6)


def test_what_one_subject_has_twice_is_no_finding():
    assert look_at([texture(1), texture(1)], ["a", "a"]) == ([], 0)


def test_what_many_share_ties_nobody():
    count = MOST_SUBJECTS + 2
    found, crowded = look_at([texture(1) for _ in range(count)])
    assert (found, crowded) == ([], count)


def test_what_all_subjects_share_is_taken_away_and_copies_stay_alike():
    rng = np.random.default_rng(0)
    common = rng.normal(size=(16, 16, 16))
    common += common[::-1]  # anatomy is about symmetric
    own = rng.normal(size=(FEWEST_TO_CENTRE, 4096))
    rows = common.ravel() * 3 + own
    rows = np.concatenate([rows, rows[:1], np.zeros((1, 4096))])
    rows[:-1] /= np.linalg.norm(rows[:-1], axis=1, keepdims=True)
    subjects = np.arange(len(rows))
    plain = (rows @ rows.T)[:-2, :-2][~np.eye(FEWEST_TO_CENTRE, dtype=bool)]
    found = centred(rows, subjects, 3)
    product = (found @ found.T)[:-2, :-2][~np.eye(FEWEST_TO_CENTRE, dtype=bool)]
    assert plain.min() > 0.9
    assert product.max() < 0.1
    assert found[0] @ found[-2] == pytest.approx(1, abs=1e-5)
    assert not found[-1].any()
    few = slice(0, FEWEST_TO_CENTRE - 1)
    np.testing.assert_array_equal(centred(rows[few], subjects[few], 3), rows[few].astype("f4"))


def test_images_without_contrast_are_not_alike():
    flat = np.full((1, 12, 12, 12), 5.0)
    assert look_at([flat, flat + 1]) == ([], 0)
