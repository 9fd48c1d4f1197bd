from __future__ import annotations

from method_cases import Broken, Case

CASE = Case(
    options={"hidden": 16, "projection": 16},
    broken={"no variance term": Broken(options={"variance": 0}, values={"steps": 160})},
)
