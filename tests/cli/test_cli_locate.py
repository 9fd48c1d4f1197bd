"""From a store to a place: pretrained, fine-tuned from, located."""

import json

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from medssl.bundle import Bundle
from medssl.cli import app
from medssl.store import Store

SMALL = ["steps=2", "batch_size=2", "device=cpu", "encoder_options.widths=[4,8]"]


def run(*arguments):
    result = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def scan(blob_store, tmp_path):
    """A volume of the store as a file, a 2D one as (column, row, 1)."""
    array = np.asarray(Store.open(blob_store)["vol-0"].array()[0]).astype(np.int16)
    voxels = array if array.ndim == 3 else array.T[..., None]
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


def test_a_run_of_it_finds_a_place_and_is_fine_tuned_from(blob_store, scan, tmp_path):
    made = run(
        *("pretrain", blob_store, tmp_path / "p", *SMALL, "--method", "anatomical_embedding"),
        *("options.dim=16", "options.width=8", "--json"),
    )
    bundle = Bundle.load(made["bundle"])
    assert bundle.spec.architecture.embedding == {"dim": 16, "fine_stride": 2, "width": 8}
    dims = bundle.spec.contract.dims
    point = [5, 9, 7 if dims == 3 else 0]
    found = run("locate", scan, scan, "--point", *point, "--bundle", bundle.path, "--json")
    # In the scan itself it is in its own cell, or beside it.
    assert np.abs(np.array(found["voxel"]) - point).max() <= 3
    assert found["return_mm"] <= 6
    assert found["similarity"] > 0.9
    tuned = run(
        *("finetune", "segmentation", blob_store, tmp_path / "s", *SMALL[:3], "--json"),
        *("--init", bundle.path, "--labels", "2"),
    )
    assert tuned["transfer_encoder_fraction"] == 1.0
