from __future__ import annotations

from method_cases import Case

CASE = Case(options={"hidden": 16, "projection": 8})
