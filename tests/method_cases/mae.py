from __future__ import annotations

from method_cases import Case

# A masked method has no shortcut to one point; only its weights can be ruined, by lr x 1000.
CASE = Case(options={"decoder_dim": 24, "decoder_depth": 1}, refused=("swin",))
