"""Facts of a header, and what of them enters the store."""

from __future__ import annotations

import re
from datetime import date

import pytest

from medssl.errors import MedsslError
from medssl.ingest import vocabulary
from medssl.ingest.dicom import find_volumes
from medssl.ingest.facts import patient_labels, retained, shared_facts
from medssl.ingest.pseudonym import MOST_DAYS, Pseudonymizer
from medssl.ingest.run import ingest
from medssl.store import Store

NAMES = Pseudonymizer(bytes(range(32)))


def kept(site: str = "", **facts: str) -> dict[str, str]:
    return retained(tuple(facts.items()), "P1", NAMES, site)


def test_nothing_stated_is_nothing_kept():
    assert set(kept().values()) == {""}


def test_dates_of_a_subject_move_together_and_back():
    first, later = (date.fromisoformat(kept(StudyDate=d)["study_date"]) for d in
                    ("20200228", "20200302"))  # fmt: skip
    assert (later - first).days == 3
    assert 1 <= (date(2020, 2, 28) - first).days <= MOST_DAYS
    assert (date(2020, 2, 28) - first).days == NAMES.days_back(" P1 ")


def test_subjects_and_keys_move_by_different_days():
    days = [NAMES.days_back(str(i)) for i in range(2000)]
    assert min(days) >= 1
    assert max(days) <= MOST_DAYS
    assert len(set(days)) > 1000
    other = Pseudonymizer(bytes(32))
    assert [other.days_back(str(i)) for i in range(20)] != days[:20]


@pytest.mark.parametrize(
    ("stated", "known"),
    [("20200121", True), ("2020.01.21", True), ("20201301", False), ("", False), ("2020", False),
     ("00010101", False), ("Doe20200", False), ("٢٠٢٠٠١٢١", False), ("20200121-", False)],
)  # fmt: skip
def test_only_a_real_date_is_a_date(stated, known):
    assert bool(kept(StudyDate=stated)["study_date"]) is known


def test_scanners_and_sites_are_pseudonyms():
    one = kept(DeviceSerialNumber="175689", Manufacturer="Siemens HealthCare GmbH")
    two = kept(DeviceSerialNumber="175689 ", Manufacturer="SIEMENS", StationName="x")
    assert one["scanner"] == two["scanner"]
    assert re.fullmatch("scn-[0-9a-f]{12}", one["scanner"])
    assert kept(DeviceSerialNumber="175689", Manufacturer="GE")["scanner"] != one["scanner"]
    station = kept(StationName="CT01", InstitutionName="Mercy")["scanner"]
    assert station == kept(StationName="ct01", InstitutionName="MERCY")["scanner"]
    assert station != kept(StationName="CT01", InstitutionName="Other")["scanner"]
    assert re.fullmatch("sit-[0-9a-f]{12}", kept(InstitutionName="Mercy  Hospital")["site"])
    assert kept(InstitutionName="Mercy", site="north")["site"] == "north"


@pytest.mark.parametrize(
    ("stated", "maker"),
    [("GE MEDICAL SYSTEMS", "GE"), ("SIEMENS", "Siemens"), ("Siemens Healthineers", "Siemens"),
     ("Philips Medical Systems", "Philips"), ("TOSHIBA_MEC", "Canon"), ("UIH", "United Imaging"),
     ("United Hospital of Doe", "other"), ("Doe^Jane", "other"), (" ", "")],
)  # fmt: skip
def test_makers_are_those_of_a_list(stated, maker):
    assert vocabulary.maker(stated) == maker


@pytest.mark.parametrize(
    ("stated", "model"),
    [("DISCOVERY MR750", "DISCOVERY MR750"), ("TrioTim", "TrioTim"), ("LightSpeed16",
      "LightSpeed16"), ("MAGNETOM Vida", "MAGNETOM Vida"), ("Achieva of Dr Doe 4711234", "Achieva"),
     ("Doe^Jane", ""), ("19700101", "")],
)  # fmt: skip
def test_models_keep_known_words_and_short_codes(stated, model):
    assert vocabulary.model(stated) == model


@pytest.mark.parametrize(
    ("stated", "words"),
    [("Axial EPI-FMRI (Interleaved I to S)", "axial epi fmri"), ("t1_mprage_sag_iso", "t1 mprage "
      "sag iso"), ("CHEST DOE, JANE *1970 B20f", "chest"), ("T2-FLAIR t2", "t2 flair"),
     ("Dr. Doe 555-1234", "")],
)  # fmt: skip
def test_descriptions_keep_known_words(stated, words):
    assert vocabulary.description(stated) == words


def test_body_parts_are_defined_terms():
    assert vocabulary.body_part("brain ") == "BRAIN"
    assert vocabulary.body_part("C-SPINE") == "CSPINE"
    assert vocabulary.body_part("Jane's head") == ""


def test_slices_that_disagree_make_a_fact_unknown():
    one = (("StudyDate", "20200101"), ("Manufacturer", "GE"), ("BurnedInAnnotation", "YES"))
    two = (("StudyDate", "20200102"), ("Manufacturer", "GE"), ("BurnedInAnnotation", ""))
    expected = {"StudyDate": "", "Manufacturer": "GE", "BurnedInAnnotation": "YES"}
    assert dict(shared_facts([one, two])) == expected


@pytest.mark.parametrize(
    ("stated", "years"),
    [("041Y", 41), ("018M", 1), ("003W", 0), ("089Y", 89), ("090Y", 90), ("103Y", 90),
     ("000Y", None), ("0Y", None), ("", None), ("41", None), ("Doe", None)],
)  # fmt: skip
def test_ages_are_whole_years_up_to_90(stated, years):
    assert patient_labels((("PatientAge", stated),), ["age"]) == {"age": years}


@pytest.mark.parametrize(("stated", "sex"), [("f", "F"), ("M", "M"), ("O", "O"), ("Jane", None)])
def test_sex_is_a_code(stated, sex):
    assert patient_labels((("PatientSex", stated),), ["sex", "age"]) == {"age": None, "sex": sex}


def test_nothing_of_the_patient_is_kept_unasked():
    assert patient_labels((("PatientAge", "041Y"), ("PatientSex", "F")), []) == {}


@pytest.mark.parametrize("wish", [{"keep": ["name"]}, {"site": "St. Mary's"}, {"site": "a" * 33}])
def test_other_wishes_are_refused(tmp_path, write_stack, wish):
    write_stack(tmp_path / "in")
    with pytest.raises(MedsslError, match="CONFIG_INVALID"):
        ingest(tmp_path / "in", tmp_path / "store", **wish)


def test_the_manifest_has_the_facts(tmp_path, write_stack):
    tags = {
        "StudyDate": "20200121",
        "Manufacturer": "GE MEDICAL SYSTEMS",
        "PatientAge": "095Y",
        "BodyPartExamined": "HEAD",
        "SeriesDescription": "Sag T1 Doe",
        "PatientSex": "F",
    }
    write_stack(tmp_path / "in", **tags)
    ingest(tmp_path / "in", tmp_path / "store", keep=["age", "sex"], site="north")
    (row,) = Store.open(tmp_path / "store").manifest.to_dict("records")
    expected = {
        "manufacturer": "GE",
        "model": "",
        "scanner": "",
        "site": "north",
        "body_part": "HEAD",
        "description": "sag t1",
        "label:age": 90,
        "label:sex": "F",
    }
    assert {name: row[name] for name in expected} == expected
    assert row["study_date"] < "2020-01-21"


def test_a_label_table_may_not_contradict_the_header(tmp_path, write_stack):
    files = write_stack(tmp_path / "in", PatientAge="041Y")
    rows = [f"{file.name},{age}" for file, age in zip(files, [42] * 4, strict=True)]
    (tmp_path / "in" / "labels.csv").write_text("\n".join(["file,age", *rows]))
    summary = ingest(tmp_path / "in", tmp_path / "store", keep=["age"])
    assert ("rejected", "DUPLICATE_CONFLICT") in summary.counts


def test_a_fact_that_cannot_be_read_is_unknown(tmp_path, write_stack):
    files = write_stack(tmp_path, StudyDate="x" * 40, PatientAge="7" * 20)
    (volume,), _ = find_volumes(files)
    assert retained(volume.facts, "P1", NAMES)["study_date"] == ""


def test_two_files_of_one_image_may_differ_in_facts(tmp_path, write_stack):
    def station(index, data):
        data.SOPInstanceUID, data.StationName = f"1.9.{index // 2}", f"S{index}"

    heights = [0.0, 0.0, 2.0, 2.0, 4.0, 4.0]

    def same_pixels(index, data):
        station(index, data)
        data.PixelData = bytes(range(24))[: 2 * data.Rows * data.Columns]

    files = write_stack(tmp_path, heights=heights, change=same_pixels)
    (volume,), _ = find_volumes(files)
    assert len(volume.duplicates) == 3
