from __future__ import annotations

import json

import pytest

from medssl.errors import MedsslError
from medssl.ingest.scan import scan
from medssl.ingest.tables import Tables


def read(folder, **texts):
    """Tables of a folder with two images and the texts given by name (dots as _)."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for name in ("a.png", "b.png"):
        (folder / "images" / name).touch()
    for name, text in texts.items():
        stem, ending = name.rsplit("_", 1)
        (folder / f"{stem}.{ending}").write_text(text)
    return Tables.read(scan(folder))


def broken(folder, **texts):
    dataset = read(folder, **texts).datasets[0]
    (error,) = [error for _, error in dataset.refused]
    assert error.code == "TABLE_INVALID"
    assert dataset.broken
    return error.what


def test_rows_types_and_reserved_columns(tmp_path):
    tables = read(
        tmp_path,
        subjects_csv="file,subject,modality,split,age,score,sex\n"
        "a.png,S1,MR,val,61,1.5,F\nimages/b.png,S2,,,,2,M\n",
    )
    dataset = tables.datasets[0]
    assert dataset.has_subjects
    assert dataset.missing == 0
    first, second = dataset.rows["images/a.png"], dataset.rows["images/b.png"]
    assert (first.subject, first.modality, first.split) == ("S1", "MR", "validation")
    assert first.labels == {"age": 61, "score": 1.5, "sex": "F"}
    assert second.labels == {"age": None, "score": 2.0, "sex": "M"}


def test_label_names(tmp_path):
    tables = read(tmp_path, labels_csv="value,name\n0,background\n1,liver\n2,spleen\n")
    assert tables.label_names() == {1: "liver", 2: "spleen"}
    assert tables.datasets[0].rows == {}


def test_two_tables_of_a_folder_are_joined(tmp_path):
    tables = read(
        tmp_path,
        subjects_csv="file,subject\na.png,S1\nb.png,S2\n",
        labels_csv="file,class\na.png,1\n",
    )
    row = tables.datasets[0].rows["images/a.png"]
    assert (row.subject, row.labels) == ("S1", {"class": 1})


def test_nearest_table_speaks_for_a_file(tmp_path):
    read(tmp_path / "inner", subjects_csv="file,subject\na.png,S1\n")
    tables = read(tmp_path, subjects_csv="file,subject\na.png,S9\n")
    assert tables.of("inner/images/a.png").root == "inner"
    assert tables.of("images/a.png").root == ""


def test_files_that_are_not_there_are_counted(tmp_path):
    assert read(tmp_path, subjects_csv="file,subject\nz.png,S1\n").datasets[0].missing == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "subject\nS1\n",
        "file,file\na.png,b.png\n",
        "file,subject\na.png\n",
        "file,subject\na.png,S1\na.png,S2\n",
        "file,subject\n../secret.png,S1\n",
        "file,subject\n/etc/passwd,S1\n",
        "file,split\na.png,training\n",
        "file,modality\na.png,magnetic resonance\n",
        "file,Patient Name\na.png,Doe\n",
    ],
)
def test_unusable_tables(tmp_path, text):
    assert "Doe" not in broken(tmp_path, subjects_csv=text)


def test_text_that_is_not_utf8(tmp_path):
    (tmp_path / "subjects.csv").write_bytes(b"file,subject\na.png,\xff\xfe\n")
    assert Tables.read(scan(tmp_path)).datasets[0].broken


def test_msd(tmp_path):
    data = {
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "Anterior"},
        "training": [{"image": "./images/a.png", "label": "./labelsTr/a.png"}],
        "test": ["./images/b.png"],
    }
    tables = read(tmp_path, dataset_json=json.dumps(data))
    dataset = tables.datasets[0]
    row = dataset.rows["images/a.png"]
    assert (row.modality, row.split, row.label_map) == ("MR", "train", "labelsTr/a.png")
    assert dataset.rows["images/b.png"].split == "test"
    assert dataset.label_names == {1: "Anterior"}
    assert dataset.missing == 1  # the label map
    assert not dataset.has_subjects


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "{}", '{"training": [3]}', '{"training": [], "labels": {"x": "y"}}',
     '{"training": [], "labels": ["a"]}'],
)  # fmt: skip
def test_unusable_msd(tmp_path, text):
    broken(tmp_path, dataset_json=text)


def test_contradicting_label_names(tmp_path):
    read(tmp_path / "x", labels_csv="value,name\n1,liver\n")
    tables = read(tmp_path, labels_csv="value,name\n1,spleen\n")
    with pytest.raises(MedsslError, match="TABLE_INVALID"):
        tables.label_names()
