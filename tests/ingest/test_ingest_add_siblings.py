"""Missing end slices, seen by a series that came in another ingest into the same store."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from medssl.ingest.completeness import CODE
from medssl.ingest.run import ingest
from medssl.store import Store

sys.path.insert(0, str(Path(__file__).parent))
from label_files import AXIAL, SAGITTAL, oblique, save, write_series

COUNTS = {"long": 8, "short": 5}


def write(root, name, *, first=0, shear=(0.0, 0.0), orientation=AXIAL, **tags):
    """A series of the same grid as the others, from its slice ``first`` on."""
    series = write_series(
        root / name, (14, 11, COUNTS[name]), seed=len(name), shear=shear, orientation=orientation
    )
    step = series.affine[:3, 2]
    for index, data in enumerate(series.slices):
        place = series.affine[:3, 3] + (first + index) * step
        data.ImagePositionPatient = [f"{v:.10f}"[:16] for v in place]
        data.StudyInstanceUID, data.FrameOfReferenceUID = "1.2.5", "1.2.6"
        for key, value in tags.items():
            setattr(data, key, value)
        save(data, root / name / f"im{(index * 7) % 997:03d}")


def stepwise(tmp_path, *steps, **options):
    """The summary of the last of several ingests into one store, each of one folder more."""
    key = tmp_path / "site.key"
    for step in steps:
        (tmp_path / "all" / step).rename(tmp_path / "in" / step)
        summary = ingest(tmp_path / "in", tmp_path / "store", key_file=key, add=True, **options)
    return summary


def tables(store):
    """What the store says, but for the ingest that read a file."""
    opened = Store.open(store)
    ledger = opened.ledger[["path", "outcome", "code", "volume_id"]]
    return opened.manifest, ledger.sort_values("path", ignore_index=True)


@pytest.fixture
def write_both(tmp_path):
    def write_them(short=None, **common):
        (tmp_path / "in").mkdir()
        write(tmp_path / "all", "long", **common)
        write(tmp_path / "all", "short", **{"first": 2, **common, **(short or {})})

    return write_them


GRIDS = [
    {},
    {"orientation": SAGITTAL},
    {"orientation": oblique(20, -35, 70)},
    {"shear": (0.0, 0.4)},
    {"orientation": oblique(-88, 3, 91), "shear": (0.2, -0.3)},
]


@pytest.mark.parametrize("allow", [(), (CODE,)])
@pytest.mark.parametrize("grid", GRIDS)
def test_the_longer_series_first_is_as_both_at_once(tmp_path, write_both, grid, allow):
    write_both(**grid)
    key = tmp_path / "site.key"
    ingest(tmp_path / "all", tmp_path / "whole", key_file=key, allow=allow)
    summary = stepwise(tmp_path, "long", "short", allow=allow)
    assert summary.counts == {("used", ""): 5} if allow else {("rejected", CODE): 5}
    for one, other in zip(tables(tmp_path / "store"), tables(tmp_path / "whole"), strict=True):
        assert one.equals(other)
    defects = Store.open(tmp_path / "store").manifest.set_index("series_id")["defects"]
    assert sorted(map(list, defects)) == ([[], [CODE]] if allow else [[]])


def test_the_shorter_series_first_stays_and_that_is_said(tmp_path, write_both):
    write_both()
    summary = stepwise(tmp_path, "short", "long")
    assert summary.volumes == 2
    assert any(note.startswith("1 series of the store") for note in summary.notes)
    shapes = Store.open(tmp_path / "store").manifest["shape"]
    assert sorted(shape[2] for shape in shapes) == [5, 8]


@pytest.mark.parametrize(
    "other",
    [
        {"StudyInstanceUID": "1.2.7"},
        {"FrameOfReferenceUID": "1.2.8"},
        {"FrameOfReferenceUID": ""},
        {"first": 4},  # it ends beyond the longer one
        {"first": 0.4},  # between its slices
        {"orientation": oblique(3, 0, 0)},
        {"PixelSpacing": [1.3, 0.95]},
    ],
)
@pytest.mark.parametrize("steps", [("long", "short"), ("short", "long")])
def test_what_is_not_on_the_same_slices_is_not_compared(tmp_path, write_both, other, steps):
    write_both(other)
    summary = stepwise(tmp_path, *steps)
    assert summary.volumes == 2
    assert not any("fewer slices" in note for note in summary.notes)


def test_frames_of_reference_are_pseudonyms(tmp_path, write_both):
    write_both()
    stepwise(tmp_path, "long")
    (frame,) = Store.open(tmp_path / "store").manifest["frame_id"]
    assert frame.startswith("frm-")
    assert len(frame) == 16
    assert "1.2.6" not in frame
