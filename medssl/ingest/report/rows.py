"""A store's tables, column by column: importing pandas would take longer than drawing the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from medssl.store import Store

Array = npt.NDArray[Any]


class Rows:
    """Rows of a manifest; what is asked for is made plain, the rest is not.

    Args:
        table: the whole manifest.
        places: which of its rows.
        plain: columns of the whole manifest that were made plain already.
    """

    def __init__(
        self, table: pa.Table, places: Sequence[int], plain: dict[str, list[Any]] | None = None
    ) -> None:
        self._table, self._places = table, places
        self._plain = {} if plain is None else plain

    @classmethod
    def of(cls, store: Store) -> Rows:
        """All rows of a store's manifest."""
        with pq.ParquetFile(store.path / "manifest.parquet") as file:  # read_table imports pandas
            table = file.read()
        return cls(table, range(table.num_rows))

    def __len__(self) -> int:
        return len(self._places)

    @property
    def names(self) -> list[str]:
        """The columns that are there."""
        return list(self._table.column_names)

    def __getitem__(self, name: str) -> list[Any]:
        if name not in self._plain:
            self._plain[name] = self._table.column(name).to_pylist()
        whole = self._plain[name]
        return whole if len(self._places) == len(whole) else [whole[i] for i in self._places]

    def numbers(self, name: str) -> Array:
        """A column of numbers, or of lists of one length, as float64."""
        return np.asarray(self[name], dtype=np.float64)

    def row(self, place: int) -> dict[str, Any]:
        """One row as plain values."""
        found: dict[str, Any] = self._table.slice(self._places[place], 1).to_pylist()[0]
        return found

    def where(self, name: str, right: Callable[[Any], bool]) -> Rows:
        """The rows whose value in a column is right."""
        kept = [i for i, value in zip(self._places, self[name], strict=True) if right(value)]
        return Rows(self._table, kept, self._plain)

    def kinds(self) -> list[tuple[str, int, Rows]]:
        """The rows of each modality and number of dimensions, in their order."""
        groups: dict[tuple[str, int], list[int]] = {}
        pairs = zip(self["modality"], self["dims"], strict=True)
        for place, (modality, dims) in zip(self._places, pairs, strict=True):
            groups.setdefault((str(modality), int(dims)), []).append(place)
        return [(*key, Rows(self._table, groups[key], self._plain)) for key in sorted(groups)]


def ledger_counts(store: Store) -> dict[tuple[str, str, str], int]:
    """Files by outcome, code and detail, in the order of their words; read piece by piece."""
    keys = ["outcome", "code", "detail"]
    counts: Counter[tuple[str, str, str]] = Counter()
    with pq.ParquetFile(store.path / "ledger.parquet") as file:
        for batch in file.iter_batches(columns=keys):
            counts.update(zip(*(batch.column(key).to_pylist() for key in keys), strict=True))
    return dict(sorted(counts.items()))
