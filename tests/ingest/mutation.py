"""Damaged bytes, for tests that say what becomes of them."""

from __future__ import annotations

import itertools
import random

from hypothesis import HealthCheck, settings

numbers = itertools.count()
relaxed = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def mutated(data: bytes, seed: int) -> bytes:
    """Some bytes changed, a piece cut out, doubled or moved, or the end cut off."""
    rng = random.Random(seed)
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        # most of what can be misread is in the header
        end = min(len(out), rng.choice([400, 2000, len(out)])) or 1
        start = rng.randrange(end)
        size = rng.choice([1, 2, 4, 16, 200])
        match rng.randrange(5):
            case 0:
                out[start : start + size] = rng.randbytes(size)
            case 1:
                out[start : start + size] = bytes([rng.choice([0, 255])]) * size
            case 2:
                del out[start : start + size]
            case 3:
                out[start:start] = out[start : start + size]
            case 4:
                del out[max(start, 1) :]
    return bytes(out)
