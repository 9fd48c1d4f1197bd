"""Reviewers' verdicts in a database: SQLite beside the results, or any server by URL.

Verdicts are only ever added. A reviewer who changes their mind adds another; the latest one
counts and the earlier ones stay as history.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from medssl.errors import MedsslError

URL_VARIABLE = "MEDSSL_VERDICTS_URL"
DECISIONS = ("accept", "reject")

METADATA = sa.MetaData()
TABLE = sa.Table(
    "verdicts",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("case_id", sa.String(255), nullable=False, index=True),
    sa.Column("reviewer", sa.String(255), nullable=False),
    sa.Column("decision", sa.String(16), nullable=False),
    sa.Column("comment", sa.Text, nullable=False, default=""),
    sa.Column("bundle_sha256", sa.String(64), nullable=False, default=""),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    sa.CheckConstraint("decision IN ('accept', 'reject')", name="decision_known"),
    sqlite_autoincrement=True,
)
for _verb in ("UPDATE", "DELETE"):
    # History holds even against another program that opens the SQLite file.
    sa.event.listen(
        TABLE,
        "after_create",
        sa.DDL(
            f"CREATE TRIGGER verdicts_no_{_verb.lower()} BEFORE {_verb} ON verdicts "
            "BEGIN SELECT RAISE(ABORT, 'verdicts are only ever added'); END"
        ).execute_if(dialect="sqlite"),
    )


@dataclass(frozen=True)
class Verdict:
    """One row. `created_at` is timezone-aware UTC; `decision` is "accept" or "reject"."""

    id: int
    case_id: str
    reviewer: str
    decision: str
    comment: str
    bundle_sha256: str
    created_at: datetime


class Verdicts:
    """The verdicts table. Raises VERDICTS_UNAVAILABLE where the database cannot be used."""

    def __init__(self, url: str | sa.URL) -> None:
        try:
            self._engine = sa.create_engine(url)
            METADATA.create_all(self._engine)
        except (sa.exc.SQLAlchemyError, ImportError) as error:
            raise _unavailable(error) from error

    @classmethod
    def of_results(cls, folder: Path) -> Verdicts:
        """The database of a results folder: MEDSSL_VERDICTS_URL, or its `verdicts.db`."""
        file = Path(folder).resolve() / "verdicts.db"
        return cls(os.environ.get(URL_VARIABLE) or sa.URL.create("sqlite", database=str(file)))

    def add(
        self, case_id: str, reviewer: str, decision: str, comment: str = "", bundle_sha256: str = ""
    ) -> None:
        """Add a verdict, dated now. Raises VERDICT_INVALID, VERDICTS_UNAVAILABLE."""
        reviewer = " ".join(reviewer.split())
        if not reviewer or len(reviewer) > 255:
            raise MedsslError("VERDICT_INVALID", "a verdict needs a reviewer's name")
        if decision not in DECISIONS:
            raise MedsslError("VERDICT_INVALID", "a decision is accept or reject")
        row = {
            "case_id": case_id,
            "reviewer": reviewer,
            "decision": decision,
            "comment": comment.strip(),
            "bundle_sha256": bundle_sha256,
            "created_at": datetime.now(UTC),
        }
        try:
            with self._engine.begin() as connection:
                connection.execute(TABLE.insert().values(**row))
        except sa.exc.SQLAlchemyError as error:
            raise _unavailable(error) from error

    def history(self, case_id: str | None = None) -> list[Verdict]:
        """All verdicts, of one case or of every case, oldest first."""
        query = sa.select(TABLE).order_by(TABLE.c.id)
        if case_id is not None:
            query = query.where(TABLE.c.case_id == case_id)
        return self._select(query)

    def latest(self, bundle_sha256: str) -> dict[tuple[str, str], Verdict]:
        """(case_id, reviewer) -> the verdict that counts, on predictions of one bundle.

        A verdict on another bundle's prediction says nothing about this one.
        """
        newest = (
            sa.select(sa.func.max(TABLE.c.id))
            .where(TABLE.c.bundle_sha256 == bundle_sha256)
            .group_by(TABLE.c.case_id, TABLE.c.reviewer)
        )
        rows = self._select(sa.select(TABLE).where(TABLE.c.id.in_(newest)))
        return {(row.case_id, row.reviewer): row for row in rows}

    def _select(self, query: sa.Select[Any]) -> list[Verdict]:
        try:
            with self._engine.connect() as connection:
                rows = connection.execute(query).mappings().all()
        except sa.exc.SQLAlchemyError as error:
            raise _unavailable(error) from error
        return [Verdict(**dict(row) | {"created_at": _utc(row["created_at"])}) for row in rows]


def to_csv(verdicts: Iterable[Verdict]) -> str:
    """Verdicts as CSV with a header, one row each, times in ISO 8601 UTC."""
    output = io.StringIO(newline="")
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow([field.name for field in fields(Verdict)])
    for verdict in verdicts:
        *values, created_at = astuple(verdict)
        writer.writerow([*values, created_at.isoformat(timespec="seconds")])
    return output.getvalue()


def _utc(moment: datetime) -> datetime:
    # SQLite keeps no time zone; what is stored is UTC.
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _unavailable(error: Exception) -> MedsslError:
    # The type only: the message of a driver can hold the URL, and with it a password.
    return MedsslError(
        "VERDICTS_UNAVAILABLE",
        f"the verdicts database cannot be used: {type(error).__name__}",
        fix=f"Make the results folder writable, or set {URL_VARIABLE} to a database.",
    )
