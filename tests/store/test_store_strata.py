import pandas as pd
import pytest

from medssl.errors import MedsslError
from medssl.store.leakage import tie
from medssl.store.strata import absent, classes, same_site, strata, summary

TABLE = pd.DataFrame(
    {
        "subject_id": ["a", "a", "b", "c", "d"],
        "modality": ["MR", "CT", "MR", "MR", "MR"],
        "label_array": ["x", "", "", "", "y"],
        "label:sick": [1.0, None, 0.0, None, 0.0],
        "label:site": ["north", "south", "south", "east", "east"],
    }
)


def test_a_subject_with_several_values_has_all_of_them_and_gaps_do_not_count():
    assert strata(TABLE, "sick") == {"a": "1", "b": "0", "c": "none", "d": "0"}
    assert strata(TABLE, "modality") == {"a": "CT + MR", "b": "MR", "c": "MR", "d": "MR"}
    assert strata(TABLE, "label-map")["a"] == "with + without"


def test_an_unknown_label_names_those_there_are():
    with pytest.raises(MedsslError, match=r"LABEL_MISSING.*sick, site, modality, label-map"):
        strata(TABLE, "ill")


def test_many_numbers_become_fifths_and_few_stay():
    fifths = classes(pd.Series([*range(100), None]))
    assert fifths[0] == "lowest fifth"
    assert fifths[99] == "highest fifth"
    assert fifths[100] == "none"
    assert fifths.value_counts()["middle fifth"] == 20
    assert classes(pd.Series([1.0, 2.0, None])).tolist() == ["1", "2", "none"]


def test_a_site_connects_its_subjects_and_a_subject_its_sites():
    groups = tie(TABLE["subject_id"], same_site(TABLE, "site"))
    assert groups == {"a": "a", "b": "a", "c": "c", "d": "c"}


def test_a_missing_column_or_value_is_an_error_that_says_how_to_get_it():
    with pytest.raises(MedsslError, match=r"SPLIT_COLUMN_MISSING.*subjects\.csv"):
        same_site(TABLE, "scanner")
    with pytest.raises(MedsslError, match=r"SPLIT_COLUMN_MISSING.*2 volumes"):
        same_site(TABLE, "sick")


def test_the_summary_counts_subjects_and_tells_absent_classes():
    rows = summary(TABLE, {"a": "train", "b": "test", "c": "train", "d": "test"})
    assert [row["split"] for row in rows] == ["train", "test"]
    train, test = rows
    assert (train["subjects"], train["volumes"]) == (2, 3)
    assert train["classes"]["sick"] == {"1": 1, "none": 2}
    assert test["classes"]["modality"] == {"MR": 2}
    assert absent(rows) == [
        "train has no subject with sick 0",
        "test has no subject with sick 1",
        "test has no subject with site north",
        "test has no subject with modality CT",
    ]
    assert not any("site" in line for line in absent(rows, by="site"))
