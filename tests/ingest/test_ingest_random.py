"""DICOM with random geometry -> store -> NIfTI: every voxel and the affine against the truth."""

from __future__ import annotations

import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from medssl.ingest.run import ingest
from medssl.store import Store
from medssl.store.export import export

POSITIONS = ("HFS", "HFP", "HFDR", "HFDL", "FFS", "FFP", "FFDR", "FFDL", "")
FIELD = np.array([3.0, -2.0, 1.0])  # change of the value over a millimetre, LPS


def value_at(mm: np.ndarray) -> np.ndarray:
    """LPS mm (..., 3) -> what is stored there: a ramp, so that a voxel says where it lies."""
    return np.rint(mm @ FIELD).astype(np.int16)


@settings(max_examples=25, deadline=None)
@given(
    turn=st.tuples(*[st.sampled_from([0, 90, -90, 180, 30.5, -12.25, 137.0])] * 3),
    spacing=st.tuples(*[st.floats(0.2, 4)] * 3),
    origin=st.tuples(*[st.floats(-200, 200)] * 3),
    shape=st.tuples(st.integers(3, 7), st.integers(3, 7), st.integers(2, 9)),
    position=st.sampled_from(POSITIONS),
    shuffle=st.randoms(use_true_random=False),
)
def test_random_series_lie_where_they_were_and_hold_what_they_held(
    make_slice, turn, spacing, origin, shape, position, shuffle
):
    axes = Rotation.from_euler("xyz", turn, degrees=True).as_matrix()
    affine = np.eye(4)  # voxel (column, row, slice) to LPS mm
    affine[:3, :3] = axes * spacing
    affine[:3, 3] = origin
    slices = shape[2]
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    truth = value_at(grid @ affine[:3, :3].T + affine[:3, 3])
    names = [f"{number:03d}" for number in range(slices)]
    shuffle.shuffle(names)
    with tempfile.TemporaryDirectory() as folder:
        (work := Path(folder) / "in").mkdir()
        for k, name in enumerate(names):
            data = make_slice(
                truth[..., k].T.copy(),
                position=tuple(affine[:3, :3] @ [0, 0, k] + affine[:3, 3]),
                orientation=(*axes[:, 0], *axes[:, 1]),
                spacing=(spacing[1], spacing[0]),
                PatientPosition=position,
            )
            data.save_as(work / name, enforce_file_format=True)
        ingest(work, Path(folder) / "store")
        export(Path(folder) / "store", Path(folder) / "nifti")
        (file,) = (Path(folder) / "nifti" / "images").iterdir()
        image = nib.load(file)
        voxels = np.asarray(image.dataobj)
        store = Store.open(Path(folder) / "store")
        stored = store[next(iter(store))]
        # The store is RAS+, the export is the source's own grid.
        assert nib.aff2axcodes(stored.affine) == ("R", "A", "S")
        held = np.stack(np.meshgrid(*map(np.arange, stored.shape), indexing="ij"), -1)
        mm = (held @ stored.affine[:3, :3].T + stored.affine[:3, 3]) * [-1, -1, 1]
        assert np.abs(np.asarray(stored.array())[0] - mm @ FIELD).max() < 0.51
    np.testing.assert_array_equal(voxels, truth)
    np.testing.assert_allclose(image.affine, np.diag([-1, -1, 1, 1]) @ affine, atol=1e-3)
