from __future__ import annotations

import itertools

import pydicom
import pytest

from medssl.errors import MedsslError
from medssl.ingest.structures import EVERY, NameRules, kept_name, number_structures, personal_words


def header(**tags):
    data = pydicom.Dataset()
    for name, value in tags.items():
        setattr(data, name, value)
    return data


@pytest.mark.parametrize(
    "name", ["Liver", "Kidney_L (cortex)", "PTV 54/60 Gy", "GTV+5.0mm", "Läsion", "x" * 64, "1"]
)
def test_ordinary_names_are_kept(name):
    assert kept_name(name, 1, (), EVERY) == name


def test_blanks_are_made_single():
    assert kept_name("  left \t lung ", 1, (), EVERY) == "left lung"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "  ",
        "x" * 65,
        "Doe^Jane",
        "a\\b",
        "<b>",
        "a\0b",
        "mrn 1234567",
        "2020-01-31",
        "31.12.1999",
    ],
)
def test_other_names_are_refused_unless_stated(name):
    with pytest.raises(MedsslError, match="LABEL_INVALID: The name of structure 7") as caught:
        kept_name(name, 7, (), EVERY)
    plain = " ".join(name.split())
    assert not plain or plain not in caught.value.what
    if plain:
        assert kept_name(name, 7, (), NameRules.of([plain])) == plain
        assert kept_name(name, 7, (), NameRules.of([], [name])) == plain


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("lesion of Jane", False),
        ("DOE liver", False),
        ("doe_1", False),
        ("AnnotatedByMiller", False),  # five letters and more are found within words too
        ("PX-99 tumour", True),
        ("PX-9917", False),
        ("px9917 tumour", False),
        ("undoer", True),  # three letters only as a word
        ("lesion 12", True),
        ("brain", True),
    ],
)
def test_names_and_numbers_of_persons_are_refused(name, kept):
    words = personal_words(
        header(
            PatientName="Doe^Jane^B",
            PatientID="PX-9917",
            AccessionNumber="12",
            OtherPatientIDs=["12", "abc.def"],
            OperatorsName="Miller^^^Dr",
        )
    )
    assert words == {"doe", "jane", "px9917", "abcdef", "miller"}
    if kept:
        assert kept_name(name, 1, words, EVERY) == name
    else:
        with pytest.raises(MedsslError, match="of a person"):
            kept_name(name, 1, words, EVERY)


def test_an_empty_header_has_no_personal_words():
    assert personal_words(header(PatientName="", PatientID=None)) == frozenset()


def test_numbers_do_not_depend_on_the_order_of_files():
    names = ["liver", "aorta", "spleen", "aorta"]
    for order in itertools.permutations(names):
        assert number_structures(order, {}) == {"aorta": 1, "liver": 2, "spleen": 3}


def test_a_stated_name_keeps_its_value_and_others_get_free_ones():
    stated = {2: "spleen", 1: "tumour", 5: "left  lung"}
    numbers = number_structures(["aorta", "liver", "spleen", "left lung", "vein"], stated)
    assert numbers == {"spleen": 2, "left lung": 5, "aorta": 3, "liver": 4, "vein": 6}


def test_a_name_with_two_values_is_refused_where_it_is_needed():
    stated = {1: "tumour", 2: "tumour"}
    assert number_structures(["liver"], stated) == {"liver": 3}
    with pytest.raises(MedsslError, match="TABLE_INVALID"):
        number_structures(["tumour"], stated)


def test_which_structures_are_wanted():
    assert EVERY.wants("liver")
    rules = NameRules.of(["spleen"], [" left  lung"])
    assert rules.wants("left lung ")
    assert not rules.wants("spleen")
