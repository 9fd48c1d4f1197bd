"""What sampling needs to know of each volume, in a few flat arrays.

A data frame or a dict per volume is copied into every worker process as soon as it is touched;
these arrays are not, and take about 300 bytes a volume.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import MedsslError
from medssl.store import Store
from medssl.store.intensity import FOREGROUND_FRACTION, IntensityContract
from medssl.store.records import LABEL_PREFIX
from medssl.training.sampling import numbered

Array = npt.NDArray[Any]

_COLUMNS = (
    "volume_id", "subject_id", "series_id", "part", "shape", "spacing", "dims", "channels", "dtype",
    "array", "label_array", "sha256", "label_sha256", "min", "max", "p005", "p995", "fg_mean",
    "fg_std",
)  # fmt: skip
_STATISTICS = ("p005", "p995", "fg_mean", "fg_std")


@dataclass(frozen=True)
class Catalogue:
    """Volumes of a store, in the order asked for.

    Attributes:
        root: the store's folder.
        ids, arrays, labels: bytes (V,), the volume's id and its file names; label b"" without one.
        hashes: bytes (V,), of voxels and label map.
        shape: int32 (V, d).
        spacing: float64 (V, d), mm.
        dtypes: bytes (V,), as stored.
        channels: of every volume.
        low, high: float64 (V,), the least and the largest value.
        bright: float64 (V,), what is above is foreground: a tenth of the way from p005 to p995.
        deviation: float64 (V,), of the foreground.
        normalisation: float32 (V, 4), low, high, shift and scale of the intensity contract.
        targets: int64 (V,), the class, -1 where there is none.
        units: int64 (V,), volumes that share a turn.
        groups: int64 (V,), the groups that take turns.
        subjects: int64 (V,), the number of the volume's subject.
    """

    root: str
    ids: Array
    arrays: Array
    labels: Array
    hashes: Array
    shape: Array
    spacing: Array
    dtypes: Array
    channels: int
    low: Array
    high: Array
    bright: Array
    deviation: Array
    normalisation: Array
    targets: Array
    units: Array
    groups: Array
    subjects: Array

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def dims(self) -> int:
        """2 or 3."""
        return int(self.shape.shape[1])

    def path(self, index: int, label: bool = False) -> str:
        """The file of a volume's voxels or of its label map, "" where it has none."""
        name = (self.labels if label else self.arrays)[index].decode()
        return f"{self.root}/{name}" if name else ""


def catalogue(
    store: Store,
    volume_ids: Sequence[str],
    intensity: IntensityContract,
    *,
    targets: Mapping[str, int] | None = None,
    balance: Sequence[str] = (),
    share_turns: bool = True,
) -> Catalogue:
    """Read what sampling needs from the manifest.

    Args:
        store: where the volumes are.
        volume_ids: which of them, all of one dimension and number of channels.
        intensity: the contract whose parameters go along.
        targets: class of a volume by its id.
        balance: manifest columns, or names of labels; volumes alike in them are a group.
        share_turns: volumes of one series (times, echoes) come as often together as one alone.

    Raises:
        MedsslError: VOLUME_UNKNOWN; NOTHING_USABLE without volumes; CONFIG_INVALID where the
            manifest has no such column; CONTRACT_MISMATCH where the volumes differ in dimension
            or channels.
    """
    if not len(volume_ids):
        raise MedsslError("NOTHING_USABLE", "There are no volumes to take crops of")
    extra = [_column(store, name) for name in balance]
    table = store.columns(list(dict.fromkeys([*_COLUMNS, *extra])))
    places = _places(table["volume_id"], volume_ids)
    if places is not None:
        table = table.take(places)
    for name in ("dims", "channels"):
        if len(table[name].unique()) > 1:
            text = f"The volumes differ in their number of {name}"
            raise MedsslError("CONTRACT_MISMATCH", text, where=name)
    dims = table["dims"][0].as_py()
    statistics = {name: _numbers(table[name]) for name in _STATISTICS}
    rows = zip(*statistics.values(), strict=True)
    parameters = np.empty((len(volume_ids), 4), dtype=np.float32)
    for index, row in enumerate(rows):
        parameters[index] = intensity.parameters(dict(zip(_STATISTICS, row, strict=True)))
    p005, p995 = statistics["p005"], statistics["p995"]
    groups = np.zeros(len(volume_ids), dtype=np.int64)
    if extra:
        groups = numbered(list(zip(*(table[name].to_pylist() for name in extra), strict=True)))
    known = targets or {}
    return Catalogue(
        root=str(store.path),
        ids=_bytes(table["volume_id"]),
        arrays=_bytes(table["array"]),
        labels=_bytes(table["label_array"]),
        # 128 bits of each are plenty to tell volumes apart
        hashes=np.char.add(_bytes(table["sha256"], 32), _bytes(table["label_sha256"], 32)),
        shape=_lists(table["shape"], dims).astype(np.int32),
        spacing=_lists(table["spacing"], dims),
        dtypes=_bytes(table["dtype"]),
        channels=int(table["channels"][0].as_py()),
        low=_numbers(table["min"]),
        high=_numbers(table["max"]),
        bright=p005 + FOREGROUND_FRACTION * (p995 - p005),
        deviation=statistics["fg_std"],
        normalisation=parameters,
        targets=np.array([known.get(name, -1) for name in volume_ids], dtype=np.int64),
        units=_units(table, groups, share_turns),
        groups=groups,
        subjects=numbered(table["subject_id"].to_pylist()),
    )


def _column(store: Store, name: str) -> str:
    known = store.column_names()
    for column in (name, LABEL_PREFIX + name):
        if column in known:
            return column
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    raise MedsslError(
        "CONFIG_INVALID",
        f"The manifest has no column {name}",
        where="balance",
        fix=f"Did you mean {near[0]}?",
    )


def _places(column: Any, wanted: Sequence[str]) -> Array | None:
    """The rows of the volumes; None where they are all rows as they come."""
    known = column.to_pylist()
    if known == list(wanted):
        return None
    rows = {name: row for row, name in enumerate(known)}
    try:
        return np.array([rows[name] for name in wanted], dtype=np.int64)
    except KeyError as error:
        raise MedsslError("VOLUME_UNKNOWN", "No such volume", where=str(error.args[0])) from None


def _units(table: Any, groups: Array, share: bool) -> Array:
    """A series of several volumes says which ``part`` of it each one is."""
    parts = table["part"].to_pylist()
    if not share or not any(parts):
        return np.arange(len(parts))
    names = (table[name].to_pylist() for name in ("subject_id", "series_id", "volume_id"))
    return numbered(
        [
            (subject, series, group) if part else volume
            for part, subject, series, volume, group in zip(
                parts, *names, groups.tolist(), strict=True
            )
        ]
    )


def _numbers(column: Any) -> Array:
    """Of an array or a chunked one, whose `to_numpy` differ in what they copy unasked."""
    chunks = column.chunks if hasattr(column, "chunks") else [column]
    parts = [np.asarray(chunk.to_numpy(zero_copy_only=False)) for chunk in chunks]
    return np.concatenate(parts).astype(np.float64)


def _lists(column: Any, n: int) -> Array:
    """(V, n) of lists of n numbers."""
    return np.concatenate([_numbers(part.flatten()) for part in column.chunks]).reshape(-1, n)


def _bytes(column: Any, most: int | None = None) -> Array:
    return np.array([(value or "")[:most].encode() for value in column.to_pylist()])
