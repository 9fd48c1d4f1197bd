"""A store at a glance, from Python and from the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from medssl.cli import app
from medssl.store import LedgerRow, Outcome, Store, StoreInfo, StoreWriter, VolumeRecord
from medssl.store.describe import describe


@pytest.fixture
def store(tmp_path):
    """Two CT volumes of one series and subject, one MR volume, one radiograph."""
    rng = np.random.default_rng(0)
    rows = []
    with StoreWriter(tmp_path / "store", StoreInfo()) as writer:
        for i, (modality, size, part) in enumerate(
            [("CT", 4, "echo_time=5"), ("CT", 6, "echo_time=9"), ("MR", 5, ""), ("DX", 0, "")]
        ):
            subject = f"s{min(i, 1)}" if modality == "CT" else f"t{i}"
            record = VolumeRecord(
                f"v{i}", "s" if modality == "CT" else subject, f"st{i // 2}", f"se{max(i, 1)}",
                modality, split="train" if i else "", part=part, defects=["DERIVED"] * (i == 2),
            )  # fmt: skip
            flat = modality == "DX"
            shape = (1, 7, 8) if flat else (1, size, 5, 3)
            image = rng.integers(-10 * (i + 1), 10 * (i + 1), shape)
            image.flat[:2] = (-10 * (i + 1), 10 * (i + 1))
            label = (image[0] > 0).astype(int) if i == 0 else None
            affine = None if flat else np.diag([1.0, 1.0, 2.0 + i, 1.0])
            spacing = (0.1, 0.2) if flat else None
            writer.add_volume(record, image, affine, label, spacing)
            rows.append(LedgerRow(f"f{i}", Outcome.USED, volume_id=f"v{i}"))
        rows.append(LedgerRow("f9", Outcome.REJECTED, "SLICE_MISSING", "1 slices are missing"))
        writer.finish(rows, 5)
    return tmp_path / "store"


def test_counts_and_ranges(store):
    found = describe(Store.open(store))
    assert (found.volumes, found.subjects, found.studies, found.series) == (4, 3, 2, 3)
    assert [(g.modality, g.dims, g.volumes) for g in found.groups] == [
        ("CT", 3, 2), ("DX", 2, 1), ("MR", 3, 1),
    ]  # fmt: skip
    ct, dx, _ = found.groups
    assert (ct.subjects, ct.labelled, ct.parts) == (1, 1, 2)
    assert ct.shape == [[4, 5, 6], [5, 5, 5], [3, 3, 3]]
    assert ct.spacing == [[1, 1, 1], [1, 1, 1], [2, 2.5, 3]]
    assert ct.intensity == [-20, 20]
    assert dx.spacing == [[0.1, 0.1, 0.1], [0.2, 0.2, 0.2]]
    assert found.splits == {"": 1, "train": 3}
    assert found.defects == {"DERIVED": 1}
    assert found.files == {"rejected": {"SLICE_MISSING": 1}, "used": {"": 4}}


def run(*arguments):
    result = CliRunner().invoke(app, ["inspect", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_command_line_shows_filters_and_speaks_json(store):
    shown = run(store)
    assert "4 volumes, 3 subjects" in shown
    assert "SLICE_MISSING" in shown
    assert json.loads(run(store, "--json"))["volumes"] == 4
    volumes = json.loads(run(store, "--modality", "ct", "--json"))
    assert [row["part"] for row in volumes] == ["echo_time=5", "echo_time=9"]
    lines = run(store, "--volumes", "--modality", "CT").splitlines()
    assert lines[1].split("\t")[4:6] == ["4,5,3", "1,1,2"]
    (row,) = json.loads(run(store, "--outcome", "rejected", "--json"))
    assert row["code"] == "SLICE_MISSING"
    assert json.loads(run(store, "--files", "--code", "derived", "--json")) == []


def test_volumes_are_chosen_by_subject_and_defect(store):
    def chosen(*options):
        return [row["volume_id"] for row in json.loads(run(store, *options, "--json"))]

    assert chosen("--subject", "s") == ["v0", "v1"]
    assert chosen("--defect", "derived") == ["v2"]
    assert chosen("--subject", "s", "--modality", "MR") == []


def test_the_files_add_up_below_the_table(store):
    lines = [line.split() for line in run(store).splitlines()]
    assert ["rejected", "SLICE_MISSING", "1"] in [line[:3] for line in lines]
    assert ["found", "5"] in lines


def test_a_page_of_the_volumes_chosen(store, tmp_path):
    page = tmp_path / "ct.html"
    assert "2 volumes" in run(store, "--modality", "CT", "--html", page)
    assert "2 of 2 shown" in page.read_text(encoding="utf-8").replace("<strong>", "")
    again = CliRunner().invoke(app, ["inspect", str(store), "--html", str(page)])
    assert again.exception.code == "OUT_EXISTS"
    lost = ["inspect", str(store), "--html", str(tmp_path / "no" / "p.html")]
    assert CliRunner().invoke(app, lost).exception.code == "INPUT_MISSING"
    none = ["inspect", str(store), "--modality", "PT", "--html", str(tmp_path / "pt.html")]
    assert CliRunner().invoke(app, none).exception.code == "NOTHING_USABLE"
    assert not (tmp_path / "pt.html").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        ["--outcome", "lost"],
        ["--volumes", "--files"],
        ["--html", "x.html", "--code", "DERIVED"],
        ["--subject", "s", "--outcome", "used"],
    ],
)
def test_what_cannot_be_listed_is_wrong_usage(store, wrong):
    assert CliRunner().invoke(app, ["inspect", str(store), *wrong]).exit_code == 2


def test_a_store_from_before_parts_is_described(store):
    table = Store.open(store).manifest.drop(columns="part")
    table.to_parquet(store / "manifest.parquet")
    assert describe(Store.open(store)).groups[0].parts == 0
