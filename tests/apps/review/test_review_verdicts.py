"""Verdicts: kept exactly, only ever added, the latest of each reviewer counts."""

from __future__ import annotations

import csv
import io
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from review_verdicts import Verdicts, to_csv

from medssl.errors import MedsslError


@pytest.fixture(autouse=True)
def _own_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MEDSSL_VERDICTS_URL", raising=False)


def test_roundtrip(tmp_path: Path) -> None:
    Verdicts.of_results(tmp_path).add("case-a", "  Ada   L. ", "accept", " fine: 5 < 6\n", "ab")
    (verdict,) = Verdicts.of_results(tmp_path).history()
    assert (verdict.case_id, verdict.reviewer, verdict.decision) == ("case-a", "Ada L.", "accept")
    assert (verdict.comment, verdict.bundle_sha256) == ("fine: 5 < 6", "ab")
    assert verdict.created_at.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - verdict.created_at) < timedelta(minutes=1)


def test_a_second_verdict_counts_and_the_first_is_kept(tmp_path: Path) -> None:
    verdicts = Verdicts.of_results(tmp_path)
    verdicts.add("case-a", "Ada", "accept", "first", "ab")
    verdicts.add("case-a", "Ada", "reject", "second", "ab")
    verdicts.add("case-b", "Ada", "accept", "", "ab")
    assert [row.comment for row in verdicts.history("case-a")] == ["first", "second"]
    latest = verdicts.latest("ab")
    assert latest["case-a", "Ada"].comment == "second"
    assert {key: row.decision for key, row in latest.items()} == {
        ("case-a", "Ada"): "reject",
        ("case-b", "Ada"): "accept",
    }


def test_two_reviewers_do_not_touch_each_other(tmp_path: Path) -> None:
    ada, ben = Verdicts.of_results(tmp_path), Verdicts.of_results(tmp_path)
    ada.add("case-a", "Ada", "accept", "", "ab")
    ben.add("case-a", "Ben", "reject", "", "ab")
    decisions = {key: row.decision for key, row in ada.latest("ab").items()}
    assert decisions == {("case-a", "Ada"): "accept", ("case-a", "Ben"): "reject"}


def test_a_verdict_on_another_bundle_does_not_count(tmp_path: Path) -> None:
    verdicts = Verdicts.of_results(tmp_path)
    verdicts.add("case-a", "Ada", "accept", "", "old")
    assert verdicts.latest("new") == {}
    assert len(verdicts.history()) == 1


@pytest.mark.parametrize("statement", ["UPDATE verdicts SET comment = 'x'", "DELETE FROM verdicts"])
def test_the_sqlite_file_itself_refuses_to_change_history(tmp_path: Path, statement: str) -> None:
    verdicts = Verdicts.of_results(tmp_path)
    verdicts.add("case-a", "Ada", "accept", "kept")
    with (
        sqlite3.connect(tmp_path / "verdicts.db") as connection,
        pytest.raises(sqlite3.IntegrityError, match="only ever added"),
    ):
        connection.execute(statement)
    assert [row.comment for row in verdicts.history()] == ["kept"]


def test_reviewers_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    stores = [Verdicts.of_results(tmp_path) for _ in range(2)]
    with ThreadPoolExecutor(8) as pool:
        work = [
            pool.submit(stores[n % 2].add, f"case-{n}", f"reviewer-{n % 3}", "accept")
            for n in range(24)
        ]
    for task in work:
        task.result()
    history = stores[0].history()
    assert sorted(row.case_id for row in history) == sorted(f"case-{n}" for n in range(24))
    assert [row.id for row in history] == list(range(1, 25))


@pytest.mark.parametrize(
    ("reviewer", "decision"), [("", "accept"), ("  ", "accept"), ("Ada", "maybe")]
)
def test_an_invalid_verdict_is_not_saved(tmp_path: Path, reviewer: str, decision: str) -> None:
    verdicts = Verdicts.of_results(tmp_path)
    with pytest.raises(MedsslError) as caught:
        verdicts.add("case-a", reviewer, decision)
    assert caught.value.code == "VERDICT_INVALID"
    assert verdicts.history() == []


def test_the_database_can_be_named_by_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "shared.db"
    monkeypatch.setenv("MEDSSL_VERDICTS_URL", f"sqlite:///{other}")
    Verdicts.of_results(tmp_path).add("case-a", "Ada", "accept")
    assert other.is_file()
    assert not (tmp_path / "verdicts.db").exists()


def test_a_folder_with_signs_that_mean_something_in_a_url(tmp_path: Path) -> None:
    folder = tmp_path / "a b?c=%41#d@e"
    folder.mkdir()
    Verdicts.of_results(folder).add("case-a", "Ada", "accept")
    assert (folder / "verdicts.db").is_file()


def test_an_unusable_database_is_a_typed_error_without_its_password(tmp_path: Path) -> None:
    (tmp_path / "verdicts.db").write_bytes(b"this is no database" * 100)
    for make in (
        lambda: Verdicts.of_results(tmp_path),
        lambda: Verdicts("nonsense://user:secret@host/db"),
        lambda: Verdicts("secret"),
    ):
        with pytest.raises(MedsslError) as caught:
            make()
        assert caught.value.code == "VERDICTS_UNAVAILABLE"
        assert "secret" not in str(caught.value)


def test_csv_holds_the_whole_history(tmp_path: Path) -> None:
    verdicts = Verdicts.of_results(tmp_path)
    verdicts.add("case-a", "Ada", "reject", 'two\nlines, a "quote"', "ab")
    verdicts.add("case-a", "Ada", "accept", "", "ab")
    rows = list(csv.DictReader(io.StringIO(to_csv(verdicts.history()), newline="")))
    assert [row["decision"] for row in rows] == ["reject", "accept"]
    assert rows[0]["comment"] == 'two\nlines, a "quote"'
    assert datetime.fromisoformat(rows[0]["created_at"]).utcoffset() == timedelta(0)
    assert list(rows[0]) == [
        "id",
        "case_id",
        "reviewer",
        "decision",
        "comment",
        "bundle_sha256",
        "created_at",
    ]
