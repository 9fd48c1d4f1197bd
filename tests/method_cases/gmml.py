from __future__ import annotations

from method_cases import Case

# As of MAE: no shortcut to one point, only weights that can be ruined.
CASE = Case()
