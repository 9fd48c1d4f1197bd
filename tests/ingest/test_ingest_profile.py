"""The table of what is read and kept, against the code and a manifest."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from pydicom.datadict import dictionary_has_tag, keyword_for_tag, tag_for_keyword
from pydicom.sr.codedict import codes
from pydicom.tag import BaseTag, Tag

import medssl.ingest
from medssl.ingest.profile import OPTIONS, READ, deidentification
from medssl.ingest.slices import _TAGS

TAGS = range(0x00080001, 0xFFFE0000)  # beside items, delimiters and plain numbers


def tag_of(key: str) -> BaseTag:
    return Tag(key.strip("()").split(",")) if key.startswith("(") else Tag(key)


def named_in_the_code() -> set[BaseTag]:
    """Every attribute that a module of ingest names, by keyword or by number."""
    found = set()
    for path in Path(medssl.ingest.__file__).parent.glob("*.py"):
        if path.name in ("profile.py", "vocabulary.py", "metaimage.py"):  # no words of DICOM
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            word = getattr(node, "value", None) if isinstance(node, ast.Constant) else None
            word = node.attr if isinstance(node, ast.Attribute) else word
            keyword = word and isinstance(word, str) and tag_for_keyword(word) is not None
            if keyword or (type(word) is int and word in TAGS and dictionary_has_tag(word)):
                found.add(Tag(word))
    return found


def test_every_attribute_that_is_read_is_declared():
    declared = {tag_of(row.key) for row in READ}
    read = named_in_the_code() | {Tag(tag) for tag in _TAGS}
    undeclared = sorted(keyword_for_tag(tag) or str(tag) for tag in read - declared)
    assert not undeclared, "read by ingest; say in medssl/ingest/profile.py what becomes of them"
    unread = sorted(keyword_for_tag(tag) or str(tag) for tag in declared - read)
    assert not unread, "declared, but nothing reads them"


def test_each_attribute_is_declared_once():
    keys = [row.key for row in READ]
    assert sorted(keys) == sorted(set(keys))


def test_the_codes_are_those_of_the_standard():
    known = {
        code.value: code.meaning
        for code in (getattr(codes.cid7050, name) for name in codes.cid7050.dir())
    }
    assert {code: known[code] for code in OPTIONS} == OPTIONS


@pytest.mark.parametrize(
    ("options", "more", "removed"),
    [
        ({}, set(), "YES"),
        ({"keep": ["age"]}, {"113108"}, "YES"),
        ({"faces_removed": True}, {"113102"}, "YES"),
        ({"burned_in": True}, set(), "NO"),
    ],
)
def test_the_record_states_what_was_applied(options, more, removed):
    record = deidentification(**options)
    assert {code["value"] for code in record["codes"]} == {"113100", "113105", "113107"} | more
    assert {code["scheme"] for code in record["codes"]} == {"DCM"}
    assert record["identity_removed"] == removed
    assert record["kept"] == list(options.get("keep", []))
    assert record["longitudinal_temporal_information"] == "MODIFIED"
