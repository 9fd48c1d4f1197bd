"""The page of a store: its files, what the data are, its volumes in pictures, what was refused."""

from medssl.ingest.report.refused import RejectedGroup
from medssl.ingest.report.write import page_or_note, write_report

__all__ = ["RejectedGroup", "page_or_note", "write_report"]
