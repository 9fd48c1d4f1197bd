from __future__ import annotations

from method_cases import Broken, Case
from method_cases.breaks import silent_head

CASE = Case(options={"hidden": 16}, broken={"the head says nothing": Broken(change=silent_head)})
