"""Synthetic patients: a torso-like CT and a head-like MR, as arrays, DICOM series and NIfTI.

The anatomy is drawn from formulas, never from a person's scan, so it can be shipped, shown and
shared. It is plausible enough to recognise, and it is not a substitute for real data.
"""

from __future__ import annotations

from medssl.phantom.anatomy import head, torso
from medssl.phantom.patient import Phantom

__all__ = ["Phantom", "head", "torso"]
