"""Label objects from the folder to the store: voxels, names, ledger."""

from __future__ import annotations

import copy
import shutil
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from medssl.errors import MedsslError
from medssl.ingest.run import ingest
from medssl.phantom import dicom_writer, torso
from medssl.store import Store

sys.path.insert(0, str(Path(__file__).parent))
from label_files import (
    SAGITTAL,
    SQUARE,
    Series,
    as_stored,
    codes,
    oblique,
    save,
    segmentation,
    some_masks,
    structure_set,
    volumes_of,
    write_series,
)


def test_a_phantom_and_its_organs_come_back_voxel_for_voxel(root, out):
    phantom = torso(3, (40, 28, 12), (9.0, 9.0, 12.0))
    files = dicom_writer.write_series(phantom, root)
    slices = [pydicom.dcmread(path) for path in files]
    # The writer's columns run from right to left and its rows from front to back.
    label = phantom.label[0, ::-1, ::-1]
    masks = {name: label == value for value, name in phantom.label_names.items()}
    made = segmentation(Series(root, slices, np.eye(4)), masks)
    save(made, root / "other folder" / "seg")
    summary = ingest(root, out)
    assert summary.counts == {("used", ""): len(files) + 1}
    store = Store.open(out)
    names = {name: value for value, name in store.info.label_names.items()}
    assert sorted(names) == sorted(phantom.label_names.values())
    assert list(names.values()) == [1, 2, 3, 4, 5, 6]
    (volume,) = volumes_of(store)
    got = volume.label()
    for value, name in phantom.label_names.items():
        np.testing.assert_array_equal(got == names[name], phantom.label == value)
    assert list(volume.row["labelled"]) == [1, 2, 3, 4, 5, 6]
    np.testing.assert_array_equal(volume.array(), phantom.image)


@pytest.mark.parametrize("orientation", [SAGITTAL, oblique(25, -14, 40), oblique(-88, 3, 91)])
def test_any_orientation_and_both_kinds_on_one_image(root, out, orientation):
    series = write_series(root / "images", orientation=orientation)
    masks = some_masks(series.shape)
    save(segmentation(series, masks), root / "seg")
    regions = {"duct": [(k, np.add(SQUARE, [4, 3])) for k in (0, 1)]}
    save(structure_set(series, regions), root / "rt")
    ingest(root, out)
    assert codes(out) == {"seg": ("used", ""), "rt": ("used", "")}
    store = Store.open(out)
    assert store.info.label_names == {1: "aorta", 2: "duct", 3: "lesion 2", 4: "liver"}
    want = masks["aorta"] + 3 * masks["lesion 2"] + 4 * masks["liver"]
    want[6:9, 5:10, :2] = 2
    (volume,) = volumes_of(store)
    np.testing.assert_array_equal(volume.label()[0], as_stored(want, series.affine))
    assert store.ledger["volume_id"].eq(volume.volume_id).all()
    assert list(volume.row["labelled"]) == [1, 2, 3, 4]


def test_each_label_finds_its_own_series(root, out):
    """Two subjects and a second series of the same study and frame of reference."""
    one = write_series(root / "one", seed=1)
    two = write_series(root / "two", seed=2, patient="P2")
    other = write_series(root / "other", seed=3)
    for name in ("StudyInstanceUID", "FrameOfReferenceUID"):
        for data in other.slices:
            setattr(data, name, getattr(one.slices[0], name))
    shutil.rmtree(other.folder)
    for index, data in enumerate(other.slices):
        save(data, other.folder / f"im{index}")
    masks = some_masks(one.shape)
    save(segmentation(two, {"liver": masks["aorta"]}), root / "seg2")
    save(segmentation(one, {"liver": masks["liver"], "aorta": masks["aorta"]}), root / "seg1")
    ingest(root, out)
    store = Store.open(out)
    assert store.info.label_names == {1: "aorta", 2: "liver"}
    found = {}
    for volume in volumes_of(store):
        for series in (one, two, other):
            image = np.stack([data.pixel_array.T for data in series.slices], axis=-1)
            if np.array_equal(volume.array()[0], as_stored(image, series.affine)):
                found[series.folder.name] = volume
    want = as_stored(2 * masks["liver"] + masks["aorta"], one.affine)
    np.testing.assert_array_equal(found["one"].label()[0], want)
    want = as_stored(2 * masks["aorta"], two.affine)
    np.testing.assert_array_equal(found["two"].label()[0], want)
    assert found["other"].label() is None
    # The second subject's annotation says nothing of its aorta.
    labelled = {name: list(volume.row["labelled"]) for name, volume in found.items()}
    assert labelled == {"one": [1, 2], "two": [2], "other": []}


def test_a_structure_that_is_nowhere_keeps_its_name(root, out):
    series = write_series(root / "images")
    masks = some_masks(series.shape)
    save(segmentation(series, masks | {"aorta": masks["aorta"] & False}), root / "seg")
    ingest(root, out)
    store = Store.open(out)
    assert store.info.label_names == {1: "aorta", 2: "lesion 2", 3: "liver"}
    (volume,) = volumes_of(store)
    assert list(volume.row["labelled"]) == [1, 2, 3]
    assert np.unique(volume.label()).tolist() == [0, 2, 3]


def test_the_part_of_a_series_that_the_label_names(root, out):
    series = write_series(root / "images", EchoTime=5)
    later = write_series(root / "later", EchoTime=30, seed=1)
    for index, data in enumerate(later.slices):
        for name in ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"):
            setattr(data, name, getattr(series.slices[0], name))
        save(data, later.folder / f"im{index * 7 % 997:03d}")
    masks = some_masks(series.shape)
    save(segmentation(later, {"liver": masks["liver"]}), root / "seg")
    ingest(root, out)
    labelled = {v.row["part"]: v.has_label for v in volumes_of(Store.open(out))}
    assert labelled == {"echo_time=5": False, "echo_time=30": True}


def test_a_single_slice_is_a_2d_image_with_a_2d_label(root, out):
    series = write_series(root / "images", (14, 11, 1))
    mask = np.random.default_rng(0).random(series.shape) < 0.4
    save(segmentation(series, {"liver": mask}), root / "seg")
    ingest(root, out)
    (volume,) = volumes_of(Store.open(out))
    np.testing.assert_array_equal(volume.label(), mask[..., 0].T[None])


def test_values_are_those_that_the_user_or_a_table_states(root, out):
    series = write_series(root / "images")
    save(segmentation(series, some_masks(series.shape)), root / "seg")
    (root / "labels.csv").write_text("value,name\n7,liver\n1,spleen\n")
    ingest(root, out)
    assert Store.open(out).info.label_names == {2: "aorta", 3: "lesion 2", 7: "liver"}
    other = out.with_name("stated")
    ingest(root, other, label_names={4: "aorta"})
    assert Store.open(other).info.label_names == {1: "lesion 2", 2: "liver", 4: "aorta"}
    with pytest.raises(MedsslError, match="TABLE_INVALID"):
        ingest(root, out.with_name("twice"), label_names={4: "aorta", 5: "aorta"})
    assert not out.with_name("twice").exists()


def test_beside_label_maps_in_files_every_structure_must_be_stated(root, out):
    """Value 1 of a NIfTI label map may be anything, so no structure may be given it."""
    series = write_series(root / "images of DICOM")
    save(segmentation(series, some_masks(series.shape)), root / "seg")
    for folder, values in (("images", 900), ("labels", 3)):
        (root / folder).mkdir()
        array = np.random.default_rng(0).integers(0, values, (4, 5, 6)).astype(np.int16)
        image = nib.Nifti1Image(array, np.eye(4))
        image.set_qform(np.eye(4), 1)
        nib.save(image, root / folder / "n.nii.gz")
    ingest(root, out)
    assert codes(out)["seg"] == ("rejected", "LABEL_INVALID")
    assert Store.open(out).info.label_names == {1: "label 1", 2: "label 2"}
    other = out.with_name("stated")
    ingest(root, other, label_names={11: "liver", 12: "aorta", 13: "lesion 2"})
    names = {1: "label 1", 2: "label 2", 11: "liver", 12: "aorta", 13: "lesion 2"}
    assert codes(other)["seg"] == ("used", "")
    assert Store.open(other).info.label_names == names


def test_the_store_does_not_depend_on_workers_or_file_names(root, out):
    for number in range(3):
        series = write_series(root / f"images{number}", seed=number, patient=f"P{number}")
        masks = some_masks(series.shape)
        names = list(masks)[number:] if number else list(masks)
        save(segmentation(series, {n: masks[n] for n in names}), root / f"seg{number}")
    ingest(root, out, workers=1)
    key = out.with_name("store.private") / "site.key"
    ingest(root, out.with_name("more"), workers=3, key_file=key)
    for name in ("manifest.parquet", "ledger.parquet", "store.json"):
        assert (out / name).read_bytes() == (out.with_name("more") / name).read_bytes()
    for number in range(3):
        (root / f"seg{number}").rename(root / f"x{9 - number}")
    ingest(root, out.with_name("renamed"), key_file=key)
    for name in ("manifest.parquet", "store.json"):
        assert (out / name).read_bytes() == (out.with_name("renamed") / name).read_bytes()


def test_the_structures_asked_for_and_no_others(root, out):
    """What is not asked for may overlap, be drawn in other ways and have any name."""
    series = write_series(root / "images")
    masks = some_masks(series.shape)
    everything = {"body Doe": np.ones(series.shape, dtype=bool), **masks}
    save(segmentation(series, everything), root / "seg")
    open_line = {"ContourGeometricType": "OPEN_PLANAR"}
    regions = {"line^1": [(2.4, SQUARE, open_line)], "duct": [(6, np.add(SQUARE, [4, 4]))]}
    save(structure_set(series, regions), root / "rt")
    save(segmentation(series, {"vein": masks["liver"]}), root / "unwanted seg")
    save(structure_set(series, {"nerve": [(1, SQUARE)]}), root / "unwanted rt")
    ingest(root, out, structures=["liver", "duct"])
    unwanted = ("ignored", "LABEL_UNWANTED")
    used = ("used", "")
    assert codes(out) == {
        "seg": used,
        "rt": used,
        "unwanted seg": unwanted,
        "unwanted rt": unwanted,
    }
    store = Store.open(out)
    assert store.info.label_names == {1: "duct", 2: "liver"}
    want = 2 * masks["liver"]
    want[6:9, 6:11, 6] = 1
    (volume,) = volumes_of(store)
    np.testing.assert_array_equal(volume.label()[0], as_stored(want, series.affine))


def test_the_command_line(root, out):
    from typer.testing import CliRunner

    from medssl.cli import app

    series = write_series(root / "images")
    save(segmentation(series, some_masks(series.shape)), root / "seg")
    arguments = ["ingest", str(root), str(out), "--structure", "liver", "--label-name", "3=liver"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert Store.open(out).info.label_names == {3: "liver"}


def _group(**tags):
    item = pydicom.Dataset()
    for name, value in tags.items():
        setattr(item, name, value)
    return [item]


def enhanced_copy(series, echoes):
    """One enhanced file with the slices of a series once per echo; echo by echo within a place."""
    first = series.slices[0]
    data = copy.deepcopy(first)
    del data.ImagePositionPatient, data.ImageOrientationPatient, data.PixelSpacing
    data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4.1", generate_uid()
    shared = pydicom.Dataset()
    shared.PixelMeasuresSequence = _group(PixelSpacing=first.PixelSpacing)
    shared.PlaneOrientationSequence = _group(ImageOrientationPatient=first.ImageOrientationPatient)
    data.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for image in series.slices:
        for echo in echoes:
            frame = pydicom.Dataset()
            frame.PlanePositionSequence = _group(ImagePositionPatient=image.ImagePositionPatient)
            frame.MREchoSequence = _group(EffectiveEchoTime=echo)
            frames.append(frame)
    data.PerFrameFunctionalGroupsSequence, data.NumberOfFrames = frames, len(frames)
    data.PixelData = b"".join(image.PixelData * len(echoes) for image in series.slices)
    return data


@pytest.mark.parametrize("which", [0, 1])
def test_the_frames_of_an_enhanced_image_that_the_label_names(root, out, tmp_path, which):
    series = write_series(tmp_path / "classic")
    image = enhanced_copy(series, [5.0, 30.0])
    image.PixelData = np.random.default_rng(0).bytes(len(image.PixelData))
    save(image, root / "im")
    masks = some_masks(series.shape)
    made = segmentation(series, {"liver": masks["liver"]})
    numbers = {data.SOPInstanceUID: 2 * k + which + 1 for k, data in enumerate(series.slices)}
    for frame in made.PerFrameFunctionalGroupsSequence:
        (source,) = frame.DerivationImageSequence[0].SourceImageSequence
        source.ReferencedFrameNumber = numbers[source.ReferencedSOPInstanceUID]
        source.ReferencedSOPInstanceUID = image.SOPInstanceUID
    save(made, root / "seg")
    ingest(root, out)
    assert codes(out) == {"seg": ("used", "")}
    found = {volume.row["part"]: volume for volume in volumes_of(Store.open(out))}
    assert sorted(found) == ["echo_time=30", "echo_time=5"]
    right = found.pop(f"echo_time={[5, 30][which]}")
    np.testing.assert_array_equal(right.label()[0], as_stored(masks["liver"], series.affine))
    assert not any(volume.has_label for volume in found.values())
