"""Pictures of refused series: of those that may be shown, and never at the cost of the ingest."""

from __future__ import annotations

import os

import numpy as np
import pytest

from medssl.ingest import refusals
from medssl.ingest.isolate import Limits
from medssl.ingest.pool import Pool
from medssl.ingest.refusals import rejected_groups
from medssl.ingest.rejection import Rejection
from medssl.ingest.report import RejectedGroup, write_report
from medssl.ingest.report.kept import keep_refusals, kept_refusals
from medssl.ingest.run import ingest
from medssl.ingest.scan import walk
from medssl.ingest.survey import survey
from medssl.store import Store

POOL = Pool(1, Limits(20.0))


@pytest.fixture
def seen(tmp_path, write_stack):
    write_stack(tmp_path / "in" / "gap", heights=[0, 2, 6, 8], series="1.1")
    (tmp_path / "in" / "notes.txt").write_text("Doe^Jane")
    return survey(walk(tmp_path / "in"), tmp_path / "headers", (), POOL)


def groups(seen, code, tmp_path):
    files = [item.path for item in seen.found]
    return rejected_groups([Rejection(files, code, "why")], tmp_path / "pictures", POOL, seen)


def test_a_refusal_of_geometry_has_a_picture(seen, tmp_path):
    (group,) = groups(seen, "SLICE_MISSING", tmp_path)
    assert (group.code, group.detail, group.files) == ("SLICE_MISSING", "why", 5)
    assert group.thumbnail.dtype == np.uint8
    assert group.thumbnail.ndim == 2


@pytest.mark.parametrize("code", ["BURNED_IN_TEXT", "SUBJECT_UNKNOWN", "DERIVED"])
def test_a_refusal_for_what_a_picture_could_show_has_none(seen, tmp_path, code):
    (group,) = groups(seen, code, tmp_path)
    assert group.thumbnail is None


def test_what_is_no_refusal_is_no_group(seen, tmp_path):
    assert groups(seen, "NOT_AN_IMAGE", tmp_path) == []


def test_a_decoder_that_crashes_costs_the_picture_alone(seen, tmp_path, monkeypatch):
    monkeypatch.setattr(refusals, "_draw", lambda *_: os._exit(1))
    (group,) = groups(seen, "SLICE_MISSING", tmp_path)
    assert group.thumbnail is None


def refused_part(page):
    text = page.read_text(encoding="utf-8")
    return text[text.index('id="refused"') : text.index('id="data"')]


def pictures(page):
    return refused_part(page).count("data:image/png")


@pytest.fixture
def root(tmp_path, write_stack):
    write_stack(tmp_path / "in" / "good", series="1.2")
    write_stack(tmp_path / "in" / "gap", heights=[0, 2, 6, 8], series="1.1")
    return tmp_path / "in"


def test_the_page_of_a_store_shows_them_whenever_it_is_drawn(root, tmp_path, write_stack):
    store = tmp_path / "store"
    ingest(root, store)
    first = refused_part(store / "ingest.html")
    assert "SLICE_MISSING" in first
    assert first.count("data:image/png") == 1
    write_report(Store.open(store), tmp_path / "again.html")
    assert refused_part(tmp_path / "again.html") == first
    write_stack(root / "other", heights=[0, 2, 6.9], series="1.3")
    ingest(root, store, add=True)
    assert pictures(store / "ingest.html") == 2
    codes = [group.code for group in kept_refusals(Store.open(store))]
    assert codes == ["SLICE_MISSING", "SPACING_UNEVEN"]
    (store / "ingest.html").unlink()
    ingest(root, store, add=True)  # reads nothing, and draws the page alone
    assert pictures(store / "ingest.html") == 2
    (store / "refused.parquet").unlink()
    write_report(Store.open(store), tmp_path / "without.html")
    assert pictures(tmp_path / "without.html") == 0
    assert "SLICE_MISSING" in refused_part(tmp_path / "without.html")


def test_they_are_kept_exactly_and_once_for_each_ingest(root, tmp_path):
    ingest(root, tmp_path / "store")
    store = Store.open(tmp_path / "store")
    picture = np.random.default_rng(0).integers(0, 256, (7, 5)).astype(np.uint8)
    groups = [RejectedGroup("A", "a", 3, picture), RejectedGroup("B", "", 1)]
    keep_refusals(store, 2, groups)
    keep_refusals(store, 2, groups)
    first, one, other = kept_refusals(store)
    assert first.code == "SLICE_MISSING"
    np.testing.assert_array_equal(one.thumbnail, picture)
    assert (one.code, one.detail, one.files) == ("A", "a", 3)
    assert (other.code, other.detail, other.files, other.thumbnail) == ("B", "", 1, None)


def test_where_nothing_was_refused_nothing_is_kept(tmp_path, write_stack):
    write_stack(tmp_path / "in")
    ingest(tmp_path / "in", tmp_path / "store")
    assert not (tmp_path / "store" / "refused.parquet").exists()
