"""Trained on NIfTI, predicting on DICOM: the SEG lies on the hippocampus' own voxels."""

import nibabel as nib
import numpy as np
import pydicom
import pytest

from medssl.config import load
from medssl.finetune import FinetuneConfig, finetune
from medssl.ingest.run import ingest
from medssl.predict.run import predict


@pytest.mark.slow
def test_a_hippocampus_model_writes_a_seg_on_a_real_series(data_root, tmp_path):
    key = tmp_path / "site.key"
    key.write_text(f"{7:064d}\n")  # pseudonyms order the subjects: another key, another short run
    ingest(data_root / "hippocampus", tmp_path / "store", modality="MR", key_file=key)
    config = load(
        FinetuneConfig,
        values={
            "steps": 300,
            "batch_size": 2,
            "lr": 4e-3,
            "patch_size": [32, 40, 32],
            "spacing": [1.0, 1.0, 1.0],
            "encoder_options": {"widths": [12, 24, 48]},
            "report": ["validation"],
        },
    )
    model = finetune("segmentation", tmp_path / "store", tmp_path / "run", config)
    assert model.metrics["validation_dice"] > 0.2  # enough to have something to write

    series = data_root / "dicom" / "identified" / "11_HCropVolume"
    summary = predict(model.bundle, series, tmp_path / "out", device="cpu")
    assert summary.exit_code == 0
    case = next((tmp_path / "out" / "cases").iterdir())
    nifti = nib.load(case / "segmentation.nii.gz")
    labels = np.asarray(nifti.dataobj)
    assert labels.any()

    # An independent reader: every frame of the SEG by the slice it refers to.
    slices = {}
    for file in series.glob("*.dcm"):
        head = pydicom.dcmread(file)
        slices[head.SOPInstanceUID] = head
    seg = pydicom.dcmread(case / "segmentation.dcm")
    frames = np.atleast_3d(seg.pixel_array).reshape(-1, seg.Rows, seg.Columns)
    found = np.zeros(3)
    for frame, item in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
        source = item.DerivationImageSequence[0].SourceImageSequence[0]
        head = slices[source.ReferencedSOPInstanceUID]
        rows, columns = np.nonzero(frame)
        position = np.array(head.ImagePositionPatient, float)
        right, down = np.array(head.ImageOrientationPatient, float).reshape(2, 3)
        between_rows, between_columns = map(float, head.PixelSpacing)
        points = position + np.outer(columns * between_columns, right)
        points = points + np.outer(rows * between_rows, down)
        found += points.sum(axis=0)
    expected = nib.affines.apply_affine(nifti.affine, np.argwhere(labels)) * [-1, -1, 1]
    np.testing.assert_allclose(found / frames.sum(), expected.mean(axis=0), atol=0.01)
    assert frames.sum() == len(expected)
