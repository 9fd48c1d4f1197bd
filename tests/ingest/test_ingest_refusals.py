"""Pictures of refused series: of those that may be shown, and never at the cost of the ingest."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from medssl.ingest import refusals
from medssl.ingest.isolate import Limits
from medssl.ingest.pool import Pool
from medssl.ingest.refusals import rejected_groups
from medssl.ingest.rejection import Rejection
from medssl.ingest.run import ingest
from medssl.ingest.scan import walk
from medssl.ingest.survey import survey

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


def test_the_page_of_a_store_shows_them(tmp_path, write_stack):
    write_stack(tmp_path / "in" / "good", series="1.2")
    write_stack(tmp_path / "in" / "gap", heights=[0, 2, 6, 8], series="1.1")
    ingest(tmp_path / "in", tmp_path / "store")
    page = Path(tmp_path / "store" / "ingest.html").read_text(encoding="utf-8")
    refused = page[page.index('id="refused"') : page.index('id="data"')]
    assert "SLICE_MISSING" in refused
    assert refused.count("data:image/png") == 1
