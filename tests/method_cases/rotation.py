from __future__ import annotations

from method_cases import Broken, Case
from method_cases.breaks import silent_head

CASE = Case(broken={"the head says nothing": Broken(change=silent_head)})
