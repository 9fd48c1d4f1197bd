"""Burned-in text: found, refused, accepted on request, listed for a person, and not imagined."""

from __future__ import annotations

import csv
import json

import nibabel as nib
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from medssl.errors import Exit, MedsslError
from medssl.ingest.burned_in import CERTAIN, characters, constant_characters, text_defects
from medssl.ingest.run import ingest
from medssl.store import Store

SHAPE = (128, 160)


def written(text: str, size: int = 14, at: tuple[int, int] = (8, 90)) -> np.ndarray:
    """(row, column): 1 where there is ink."""
    layer = Image.new("L", SHAPE[::-1], 0)
    ImageDraw.Draw(layer).text(at, text, fill=255, font=ImageFont.load_default(size))
    return np.asarray(layer) / 255.0


def anatomy(seed: int = 0) -> np.ndarray:
    """A smooth round thing with grain, 0 to 1000."""
    rng = np.random.default_rng(seed)
    row, column = np.ogrid[: SHAPE[0], : SHAPE[1]]
    round_thing = 700.0 * (np.hypot(row - 60, column - 80) < 50)
    return round_thing + rng.normal(100, 20, SHAPE)


def with_ink(picture: np.ndarray, ink: np.ndarray, value: float) -> np.ndarray:
    return picture * (1 - ink) + value * ink


@pytest.mark.parametrize("value", [1500.0, -500.0])
@pytest.mark.parametrize("size", [12, 16, 20])
def test_bright_and_dark_text_is_counted(size, value):
    found = characters(with_ink(anatomy(), written("MRN 471123", size), value))
    assert 7 <= found <= 12


def test_text_that_runs_down_is_counted():
    picture = with_ink(anatomy(), written("MRN 471123"), 1500.0)
    for turned in (picture.T, np.rot90(picture, 2), picture[:, ::-1]):
        assert characters(turned) >= 7


def test_colour_counts_as_its_brightest_channel():
    picture = np.stack([anatomy(), with_ink(anatomy(), written("MRN 471123"), 1500), anatomy()])
    assert characters(picture) >= 7


def test_what_is_no_text_is_none():
    rng = np.random.default_rng(0)
    assert characters(anatomy()) < 5
    assert characters(rng.normal(size=SHAPE)) < CERTAIN
    assert characters(np.zeros(SHAPE)) == 0
    assert characters(np.arange(12).reshape(3, 4)) == 0
    row, column = np.ogrid[: SHAPE[0], : SHAPE[1]]
    assert characters((column % 10 < 3) + 0.0 * row) == 0  # a grid, as of an anti-scatter grid
    assert characters((row % 12 == 0) & (column < 60)) == 0  # a ruler


def test_a_side_marker_is_not_enough():
    assert characters(with_ink(anatomy(), written("L"), 1500.0)) < 5


def test_only_text_that_is_on_all_slices_counts_in_a_volume():
    ink = written("DOE 1970-01")
    clean = np.stack([anatomy(k) for k in range(12)], axis=-1)
    marked = with_ink(clean, ink[..., None], 1500.0)
    once = clean.copy()
    once[..., 5] = marked[..., 5]
    assert constant_characters(marked) >= CERTAIN
    assert max(constant_characters(clean), constant_characters(once)) < CERTAIN
    volume = once.transpose(1, 0, 2)[None]
    assert text_defects(volume, "CT") == []
    with pytest.raises(MedsslError, match="BURNED_IN_TEXT"):
        text_defects(volume, "CT", derived=True)


def test_a_declared_text_is_believed_and_a_denied_one_is_not():
    clean = anatomy()[None]
    with pytest.raises(MedsslError, match="BURNED_IN_TEXT"):
        text_defects(clean, "CT", flagged=True)
    assert text_defects(clean, "CT", flagged=True, allow=["BURNED_IN_TEXT"]) == ["BURNED_IN_TEXT"]
    assert text_defects(clean, "CT", allow=["BURNED_IN_TEXT"]) == []


@pytest.fixture
def pictures(tmp_path):
    """One clean PNG and one with text."""
    folder = tmp_path / "in"
    folder.mkdir()
    clean, marked = anatomy(1), with_ink(anatomy(2), written("DOE 1970-01"), 1500.0)
    for name, picture in {"clean": clean, "DOE_JANE": marked}.items():
        grey = np.clip(picture / 6, 0, 255).astype(np.uint8)
        Image.fromarray(grey).save(folder / f"{name}.png")
    return folder


def test_text_goes_to_quarantine_and_not_into_the_store(tmp_path, pictures):
    summary = ingest(pictures, tmp_path / "store")
    assert summary.counts == {("rejected", "BURNED_IN_TEXT"): 1, ("used", ""): 1}
    assert any("quarantine" in note for note in summary.notes)
    folder = summary.private / "quarantine"
    listed = folder / "burned-in-text.csv"
    with listed.open(encoding="utf-8") as stream:
        assert [row["real_path"] for row in csv.DictReader(stream)] == ["DOE_JANE.png"]
    assert folder.stat().st_mode & 0o777 == 0o700
    assert listed.stat().st_mode & 0o777 == 0o600
    ingest(pictures, tmp_path / "other", key_file=None)
    assert len(list(folder.iterdir())) == 1


def test_accepted_text_is_in_the_manifest_and_in_the_record(tmp_path, pictures):
    ingest(pictures, tmp_path / "store", allow=["BURNED_IN_TEXT"])
    store = Store.open(tmp_path / "store")
    assert sorted(list(d) for d in store.manifest["defects"]) == [[], ["BURNED_IN_TEXT"]]
    record = json.loads((tmp_path / "store" / "store.json").read_text())["deidentification"]
    assert record["identity_removed"] == "NO"
    assert not (tmp_path / "store.private" / "quarantine").exists()


def test_a_series_whose_header_states_text_is_refused(tmp_path, write_stack):
    def state(index, data):
        data.BurnedInAnnotation = "YES" if index == 2 else "NO"

    write_stack(tmp_path / "in", change=state)
    summary = ingest(tmp_path / "in", tmp_path / "store")
    assert summary.counts == {("rejected", "BURNED_IN_TEXT"): 4}


def grey_pictures(count, marked):
    """uint8 pictures, of which some hold text."""
    made = [with_ink(anatomy(k), written("DOE 1970-01") * (k in marked), 1500.0) for k in count]
    return np.stack([np.clip(picture / 6, 0, 255).astype(np.uint8) for picture in made])


@pytest.mark.parametrize("allow", [(), ("BURNED_IN_TEXT",)])
def test_pictures_of_an_archive_are_searched_one_by_one(tmp_path, allow):
    folder = tmp_path / "in"
    folder.mkdir()
    train, test = grey_pictures(range(4), {1}), grey_pictures(range(4, 6), {5})
    classes = np.arange(4)[:, None]
    np.savez(folder / "a.npz", train_images=train, train_labels=classes, test_images=test)
    summary = ingest(folder, tmp_path / "store", allow=allow)
    store = Store.open(tmp_path / "store")
    listed = tmp_path / "store.private" / "quarantine" / "burned-in-text.csv"
    if allow:
        assert summary.exit_code is Exit.DONE
        assert sorted(map(list, store.manifest["defects"])) == [[]] * 4 + [["BURNED_IN_TEXT"]] * 2
        assert not listed.exists()
        return
    assert summary.exit_code is Exit.SOME_REJECTED
    assert summary.counts == {("used", "BURNED_IN_TEXT"): 1}
    assert store.ledger["detail"].item().startswith("4 images; 2 refused: A line of about")
    assert sorted(store.manifest["label:class"].dropna()) == [0, 2, 3]
    kept = {store[name].array().tobytes() for name in store}
    assert kept == {p.tobytes() for p in (train[0], train[2], train[3], test[0])}
    assert "a.npz" in listed.read_text(encoding="utf-8")


def test_an_archive_of_nothing_but_text_is_refused(tmp_path):
    (tmp_path / "in").mkdir()
    np.savez(tmp_path / "in" / "a.npz", train_images=grey_pictures([1], {1}))
    summary = ingest(tmp_path / "in", tmp_path / "store")
    assert summary.counts == {("rejected", "BURNED_IN_TEXT"): 1}


def test_every_page_of_a_tiff_is_judged_by_itself(tmp_path):
    (tmp_path / "in").mkdir()
    first, *others = map(Image.fromarray, grey_pictures(range(3), {1}))
    first.save(tmp_path / "in" / "a.tiff", save_all=True, append_images=others)
    summary = ingest(tmp_path / "in", tmp_path / "store")
    assert summary.counts == {("used", "BURNED_IN_TEXT"): 1}
    assert summary.volumes == 2


@pytest.mark.parametrize("slices", [1, 3])
def test_of_nifti_single_slices_are_searched_and_volumes_are_not(tmp_path, slices):
    """Which axis the slices of a volume lie along, nobody knows."""
    (tmp_path / "in").mkdir()
    stack = grey_pictures(range(slices), {0, 1, 2}).transpose(2, 1, 0)
    image = nib.Nifti1Image(stack, np.eye(4))
    image.set_sform(np.eye(4), 1)
    nib.save(image, tmp_path / "in" / "a.nii.gz")
    summary = ingest(tmp_path / "in", tmp_path / "store")
    outcome = ("used", "") if slices > 1 else ("rejected", "BURNED_IN_TEXT")
    assert summary.counts == {outcome: 1}


@pytest.mark.data
def test_no_real_series_is_refused_for_text(tmp_path, data_root):
    for name in ("identified", "ct_slices", "epi/siemens"):
        summary = ingest(data_root / "dicom" / name, tmp_path / name.replace("/", "-"))
        assert ("rejected", "BURNED_IN_TEXT") not in summary.counts
