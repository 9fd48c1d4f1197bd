"""Tables of plain values as Parquet files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

_SCALARS = {int: (pa.int64(), np.int64), float: (pa.float64(), np.float64)}


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows of plain values; what a row does not have is null."""
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: _column([row.get(name) for row in rows]) for name in names}
    pq.write_table(pa.table(columns), path)


def _column(values: list[Any]) -> pa.Array:
    """As ``pyarrow.array``, which imports pandas to see whether the values are its own; that takes
    longer than reading a hundred slices."""
    if not values:
        return pa.nulls(0)
    kinds = set(map(type, values))
    if kinds == {str}:
        return _texts(values)
    if kinds == {int} or kinds == {float}:
        return _numbers(values, kinds.pop())
    if kinds == {list}:
        flat = _column([item for value in values for item in value])
        ends = pa.py_buffer(np.cumsum([0, *map(len, values)], dtype=np.int32))
        kind = pa.list_(flat.type)
        return pa.Array.from_buffers(kind, len(values), [None, ends], children=[flat])
    return pa.array(values)


def _texts(values: Sequence[str]) -> pa.Array:
    encoded = [value.encode() for value in values]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    kind, offsets = (pa.string(), np.int32) if ends[-1] < 2**31 else (pa.large_string(), np.int64)
    buffers = [None, pa.py_buffer(ends.astype(offsets)), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(kind, len(values), buffers)


def _numbers(values: Sequence[Any], kind: type) -> pa.Array:
    stored, dtype = _SCALARS[kind]
    buffers = [None, pa.py_buffer(np.array(values, dtype=dtype))]
    return pa.Array.from_buffers(stored, len(values), buffers)
