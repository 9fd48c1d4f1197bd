"""Label objects that cannot be used cost themselves alone, and tell nothing."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
from pydicom.uid import generate_uid

from medssl.errors import CODES, Exit
from medssl.ingest import label_maps
from medssl.ingest.dicom import find_volumes
from medssl.ingest.label_maps import read_labels
from medssl.ingest.rejection import Rejection
from medssl.ingest.run import ingest
from medssl.store import Store

sys.path.insert(0, str(Path(__file__).parent))
from label_files import (
    SQUARE,
    as_stored,
    codes,
    save,
    segmentation,
    some_masks,
    structure_set,
    volumes_of,
    write_series,
)


def test_a_label_that_cannot_be_used_costs_itself_alone(root, out, tmp_path):
    series = write_series(root / "images")
    elsewhere = write_series(tmp_path / "elsewhere")
    masks = some_masks(series.shape)
    good = {"aorta": masks["aorta"]}
    save(segmentation(series, good), root / "good")
    save(segmentation(elsewhere, good), root / "without image")
    moved = segmentation(series, {"vein": masks["liver"]})
    moved.FrameOfReferenceUID = generate_uid()
    save(moved, root / "moved")
    save(structure_set(series, {"duct": [(2.4, SQUARE)]}), root / "between")
    save(segmentation(series, {"Doe": masks["liver"]}), root / "name")
    cut = segmentation(series, {"bone": masks["liver"]})
    cut.PixelData = cut.PixelData[:20]
    save(cut, root / "cut")
    (root / "broken").write_bytes((root / "good").read_bytes()[:700])
    summary = ingest(root, out)
    assert summary.exit_code is Exit.SOME_REJECTED
    assert codes(out) == {
        "good": ("used", ""),
        "without image": ("rejected", "LABEL_WITHOUT_IMAGE"),
        "moved": ("rejected", "LABEL_GRID_MISMATCH"),
        "between": ("rejected", "LABEL_GRID_MISMATCH"),
        "name": ("rejected", "LABEL_INVALID"),
        "cut": ("rejected", "FILE_TRUNCATED"),
        "broken": ("rejected", codes(out)["broken"][1]),
    }
    assert sum(summary.counts.values()) == summary.found == 8 + 7
    store = Store.open(out)
    assert list(store.info.label_names.values()) == ["aorta"]
    (volume,) = volumes_of(store)
    np.testing.assert_array_equal(
        volume.label()[0] > 0, as_stored(masks["aorta"], series.affine) > 0
    )


def test_overlap_is_refused_for_every_object_in_it(root, out):
    series = write_series(root / "images")
    masks = some_masks(series.shape)
    both = masks["liver"] | masks["lesion 2"]
    save(segmentation(series, {"a": masks["liver"]}), root / "seg a")
    save(segmentation(series, {"b": both}), root / "seg b")
    save(segmentation(series, {"c": masks["lesion 2"]}), root / "seg c")
    save(segmentation(series, {"d": masks["aorta"]}), root / "seg d")
    ingest(root, out)
    overlap = ("rejected", "LABEL_OVERLAP")
    refused = dict.fromkeys(["seg a", "seg b", "seg c"], overlap)
    assert codes(out) == refused | {"seg d": ("used", "")}
    (volume,) = volumes_of(Store.open(out))
    assert list(volume.row["labelled"]) == [4]
    again = out.with_name("again")
    ingest(root, again, allow=["LABEL_OVERLAP"])
    assert set(codes(again).values()) == {("used", "")}
    (volume,) = volumes_of(Store.open(again))
    assert list(volume.row["defects"]) == ["LABEL_OVERLAP"]
    want = 2 * masks["liver"] + 3 * masks["lesion 2"] + 4 * masks["aorta"]
    np.testing.assert_array_equal(volume.label()[0], as_stored(want, series.affine))


def test_versions_and_copies(root, out):
    series = write_series(root / "images")
    masks = some_masks(series.shape)
    save(segmentation(series, {"liver": masks["liver"]}), root / "reader 1")
    save(segmentation(series, {"liver": masks["liver"]}), root / "reader 2")
    save(segmentation(series, {"aorta": masks["aorta"]}), root / "seg")
    shutil.copy(root / "seg", root / "seg copy")
    clash = segmentation(series, {"vein": masks["lesion 2"]})
    save(clash, root / "clash 1")
    clash.SegmentSequence[0].SegmentLabel = "duct"
    save(clash, root / "clash 2")
    ingest(root, out)
    conflict = ("rejected", "DUPLICATE_CONFLICT")
    assert codes(out) == {
        "reader 1": conflict,
        "reader 2": conflict,
        "clash 1": conflict,
        "clash 2": conflict,
        "seg": ("used", ""),
        "seg copy": ("duplicate", "DUPLICATE"),
    }
    assert Store.open(out).info.label_names == {1: "aorta"}


def test_labels_of_images_that_are_there_twice_or_not_at_all(root, out):
    series = write_series(root / "images")
    (root / "copies").mkdir()
    for path in series.folder.iterdir():
        shutil.copy(path, root / "copies" / f"im copy {path.name}")
    masks = some_masks(series.shape)
    save(segmentation(series, masks), root / "seg")
    flat = write_series(root / "flat", PixelData=b"\0" * 2 * 14 * 11, patient="P3")
    save(segmentation(flat, masks), root / "seg of nothing")
    ingest(root, out)
    assert codes(out) == {
        "seg": ("used", ""),
        "seg of nothing": ("rejected", "LABEL_WITHOUT_IMAGE"),
    }
    (volume,) = volumes_of(Store.open(out))
    assert volume.has_label


def test_the_same_image_and_label_under_other_uids_are_duplicates(root, out):
    masks = some_masks((14, 11, 8))
    for name in ("1", "2"):
        series = write_series(root / f"images{name}")
        save(segmentation(series, masks), root / f"seg{name}")
    ingest(root, out)
    assert sorted(codes(out).values()) == [("duplicate", "DUPLICATE"), ("used", "")]


def test_a_label_object_that_crashes_its_reader_costs_itself_alone(root, out, monkeypatch):
    def crash(*arguments, **named):
        os._exit(9)

    series = write_series(root / "images")
    save(segmentation(series, some_masks(series.shape)), root / "seg")
    monkeypatch.setattr("medssl.ingest.dicom_seg.SegReader", crash)
    summary = ingest(root, out)
    assert summary.counts == {("rejected", "READER_FAILED"): 1, ("used", ""): 8}
    (volume,) = volumes_of(Store.open(out))
    assert not volume.has_label


def test_no_identifier_of_a_label_object_reaches_the_store(root, out, capfd, recwarn):
    canaries = ["Canary", "CANARY", "4711", "1.2.840.99", "19500203"]
    series = write_series(root / "images", patient="MRN4711", PatientName="Canary^Jane")
    masks = some_masks(series.shape)
    made = segmentation(series, {"liver": masks["liver"]})
    made.SeriesInstanceUID, made.SeriesDescription = "1.2.840.99.5", "Canary"
    made.ContentCreatorName, made.ContentDescription = "Canary^Reader", "Canary 4711"
    made.SegmentSequence[0].SegmentDescription = "Canary 19500203"
    save(made, root / "Canary 1")
    save(segmentation(series, {"Canary lesion": masks["aorta"]}), root / "Canary 2")
    data = structure_set(series, {"born 19500203": [(2, SQUARE)]})
    data.StructureSetLabel = data.StructureSetName = "Canary"
    save(data, root / "Canary 3")
    far = structure_set(series, {"vein": [(2.4, SQUARE)]})
    far.StructureSetROISequence[0].ROIDescription = "Canary"
    save(far, root / "Canary 4")
    summary = ingest(root, out)
    assert [fate[0] for _, fate in sorted(codes(out).items())] == ["used"] + ["rejected"] * 3
    captured = capfd.readouterr()
    texts = [json.dumps(summary.as_json()), captured.out, captured.err]
    texts += [str(w.message) for w in recwarn]
    store = Store.open(out)
    texts += [store.manifest.to_csv(), store.ledger.to_csv()]
    for path in out.rglob("*"):
        texts.append(path.name)
        if path.is_file():
            texts.append(path.read_bytes().decode("latin-1"))
    for canary in canaries:
        assert not any(canary in text for text in texts), canary


def test_a_folder_of_labels_alone_makes_no_store(root, out, tmp_path):
    series = write_series(tmp_path / "elsewhere")
    save(segmentation(series, some_masks(series.shape)), root / "seg")
    assert ingest(root, out).exit_code is Exit.NOTHING_USABLE
    assert codes(out) == {"seg": ("rejected", "LABEL_WITHOUT_IMAGE")}


def test_an_image_under_the_series_uid_of_a_label_is_refused(root, out):
    series = write_series(root / "images")
    made = segmentation(series, some_masks(series.shape))
    save(made, root / "seg")
    stray = write_series(root / "stray", (4, 4, 1), patient="P2").slices[0]
    stray.SeriesInstanceUID = made.SeriesInstanceUID
    save(stray, root / "stray" / "im000")
    ingest(root, out)
    assert codes(out) == {"seg": ("used", "")}
    counts = Store.open(out).ledger["code"].value_counts().to_dict()
    assert counts == {"": 9, "SERIES_MIXED": 1}


def test_damaged_label_objects_never_stop_the_run_nor_slip_through(root, tmp_path):
    """Bytes changed, cut out or cut off: the header pass and drawing raise nothing."""
    series = write_series(root / "images")
    masks = some_masks(series.shape)
    regions = {"liver": [(2, SQUARE)], "vein": [(5, SQUARE)]}
    files = [
        save(segmentation(series, masks), tmp_path / "seg"),
        save(segmentation(series, masks, "LABELMAP"), tmp_path / "map"),
        save(structure_set(series, regions), tmp_path / "rt"),
    ]
    (volume,), _ = find_volumes(series.folder.iterdir())
    rng, met = np.random.default_rng(0), set()
    for number in range(240):
        content = bytearray(files[number % 3].read_bytes())
        for place in rng.integers(132, len(content) - 8, size=rng.integers(1, 5)):
            content[place : place + rng.integers(0, 2)] = bytes(rng.integers(0, 256, 1, np.uint8))
        path = tmp_path / "damaged"
        path.write_bytes(content[: rng.integers(400, len(content))] if number % 7 == 0 else content)
        (found,) = read_labels([path])
        if isinstance(found, Rejection):
            met.add(found.code)
        else:
            values = {name: value for value, name in enumerate(found.structures, start=1)}
            drawn = label_maps.draw_labels([found], volume, values)
            ((code, _),) = drawn.fates.values()
            assert (drawn.label is None) == bool(code)
            met.add(code)
    assert {"", "LABEL_INVALID", "LABEL_GRID_MISMATCH"} <= met <= {"", *CODES}
