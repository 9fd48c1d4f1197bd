"""Defects that a user may accept."""

from __future__ import annotations

ALLOWABLE = frozenset(
    {
        "LOCALIZER",
        "DERIVED",
        "LABEL_OVERLAP",
        "SLICES_FEWER_THAN_STATED",
        "SLICES_FEWER_THAN_SIBLING",
        "SPACING_UNKNOWN",
        "SPACING_UNEVEN",
        "GANTRY_TILT",
        "BURNED_IN_TEXT",
        "FACE_NOT_REMOVED",
    }
)
"""Defects of which a volume can still be made, if the user says so. SPACING_UNKNOWN is one of
radiographs alone (pictures have it without asking), LABEL_OVERLAP one of label objects.
SPACING_UNEVEN resamples the slices; GANTRY_TILT believes the positions where the header states
another tilt. FACE_NOT_REMOVED is one of ingest with ``deface``."""
