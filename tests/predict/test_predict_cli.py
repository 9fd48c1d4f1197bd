"""The verb: what it prints and what it exits with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from medssl.cli.predict import predict


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command()(predict)
    return app


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    voxels = np.random.default_rng(0).integers(0, 200, (9, 10, 7)).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), folder / "a.nii.gz")
    return folder


def test_json_for_machines(
    app: typer.Typer, scans: Path, tmp_path: Path, make_bundle: Callable[..., Path]
) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    (scans / "b.nii.gz").write_bytes(b"")
    arguments = [str(bundle), str(scans), str(tmp_path / "out"), "--json", "--device", "cpu"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 3, result.output
    printed = json.loads(result.stdout)
    status = json.loads((tmp_path / "out" / "status.json").read_text())
    assert printed["cases"] == status["cases"]
    assert [case["outcome"] for case in printed["cases"]] == ["rejected", "written"]


def test_a_table_for_people(
    app: typer.Typer, scans: Path, tmp_path: Path, make_bundle: Callable[..., Path]
) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    arguments = [str(bundle), str(scans), str(tmp_path / "out"), "--no-keep-images"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "1 of 1 cases predicted" in result.stdout
    assert not list((tmp_path / "out").rglob("image.nii.gz"))


def test_help_shows_an_example(app: typer.Typer) -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    assert "medssl predict" in result.output
    assert "\\b" not in result.output
    assert "medssl review" in result.output
