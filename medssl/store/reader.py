"""Reading a store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from medssl.errors import MedsslError
from medssl.store.arrays import OpenArrays, file_hash, read_array
from medssl.store.records import FORMAT_VERSION, LABEL_PREFIX, StoreInfo

if TYPE_CHECKING:
    import pandas as pd

Array = npt.NDArray[Any]


class Volume:
    """One volume of a store; voxels are read when asked for.

    Attributes:
        row: its manifest row.
    """

    def __init__(self, root: Path, row: dict[str, Any], maps: OpenArrays | None = None) -> None:
        self._root, self.row = root, row
        self._maps = OpenArrays() if maps is None else maps

    @property
    def volume_id(self) -> str:
        """Pseudonym of the volume."""
        return str(self.row["volume_id"])

    @property
    def subject_id(self) -> str:
        """Pseudonym of the subject."""
        return str(self.row["subject_id"])

    @property
    def modality(self) -> str:
        """DICOM modality code."""
        return str(self.row["modality"])

    @property
    def dims(self) -> int:
        """2 or 3."""
        return int(self.row["dims"])

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape: (x, y, z) or (row, column)."""
        return tuple(int(n) for n in self.row["shape"])

    @property
    def spacing(self) -> tuple[float, ...]:
        """Voxel size in mm, one per spatial axis."""
        return tuple(float(v) for v in self.row["spacing"])

    @property
    def affine(self) -> Array:
        """4x4 float64, voxel to RAS mm."""
        return np.asarray(list(self.row["affine"]), dtype=np.float64).reshape(4, 4)

    @property
    def source_orientation(self) -> str:
        """Axis codes of the array it was made from, such as "LPS"."""
        return str(self.row["source_orientation"])

    @property
    def has_label(self) -> bool:
        """Whether a label map lies on its grid."""
        return bool(self.row["label_array"])

    def array(self) -> Array:
        """The voxels (channel, *spatial), a read-only memory map in the stored dtype."""
        return read_array(self._root / self.row["array"])

    def label(self) -> Array | None:
        """The label map (1, *spatial), unsigned whole numbers, or None."""
        return read_array(self._root / self.row["label_array"]) if self.has_label else None

    def crop(self, start: Sequence[int], size: Sequence[int]) -> Array:
        """A copy of the voxels from ``start``; only their bytes are read. See :func:`_crop`.

        The file stays open for the next crop, in the store that this volume is of.
        """
        return _crop(self._maps(str(self._root / self.row["array"])), start, size)

    def label_crop(self, start: Sequence[int], size: Sequence[int]) -> Array | None:
        """The label map's crop, as :meth:`crop`."""
        if not self.has_label:
            return None
        return _crop(self._maps(str(self._root / self.row["label_array"])), start, size)

    def verify(self) -> None:
        """Compare the arrays with their recorded hashes.

        Raises:
            MedsslError: STORE_CORRUPT.
        """
        pairs = [(self.row["array"], self.row["sha256"])]
        if self.has_label:
            pairs.append((self.row["label_array"], self.row["label_sha256"]))
        for name, expected in pairs:
            path = self._root / name
            if not path.exists() or file_hash(path) != expected:
                raise MedsslError(
                    "STORE_CORRUPT",
                    "An array differs from its recorded hash",
                    where=self.volume_id,
                    fix="Restore it from a backup or ingest again.",
                )


def _crop(array: Array, start: Sequence[int], size: Sequence[int]) -> Array:
    """Crop the spatial axes; raises ValueError where the crop leaves the array."""
    if len(start) != array.ndim - 1 or len(size) != array.ndim - 1:
        raise ValueError(f"start and size need {array.ndim - 1} numbers, one per spatial axis")
    for begin, length, extent in zip(start, size, array.shape[1:], strict=True):
        if begin < 0 or length < 1 or begin + length > extent:
            raise ValueError(f"a crop of {length} from {begin} leaves an axis of {extent} voxels")
    window = tuple(slice(b, b + n) for b, n in zip(start, size, strict=True))
    return np.array(array[(slice(None), *window)])


class Store:
    """A folder of volumes; see ``docs/reference/store.md``. Iterating gives volume ids."""

    def __init__(self, path: Path, info: StoreInfo) -> None:
        self.path, self.info = path, info
        self._maps = OpenArrays()

    @classmethod
    def open(cls, path: Path | str) -> Store:
        """Open a store.

        Raises:
            MedsslError: INPUT_MISSING, STORE_INVALID, STORE_FORMAT.
        """
        path = Path(path)
        if not path.exists():
            raise MedsslError(
                "INPUT_MISSING",
                "The store does not exist",
                where=path.name,
                fix="Make it with `medssl ingest IN STORE`.",
            )
        missing = [
            name
            for name in ("store.json", "manifest.parquet", "ledger.parquet")
            if not (path / name).is_file()
        ]
        if missing:
            raise MedsslError("STORE_INVALID", f"The folder has no {missing[0]}", where=path.name)
        try:
            data = json.loads((path / "store.json").read_text(encoding="utf-8"))
            version = data.get("format_version")
            if version != FORMAT_VERSION:
                raise MedsslError(
                    "STORE_FORMAT",
                    f"The store has format {version}; this medssl reads {FORMAT_VERSION}",
                    where=path.name,
                )
            info = StoreInfo.model_validate(data)
        except (ValueError, ValidationError, AttributeError):
            raise MedsslError("STORE_INVALID", "store.json is damaged", where=path.name) from None
        return cls(path, info)

    @cached_property
    def manifest(self) -> pd.DataFrame:
        """One row per volume, sorted by volume id."""
        import pandas as pd

        return pd.read_parquet(self.path / "manifest.parquet")

    @cached_property
    def ledger(self) -> pd.DataFrame:
        """One row per input file: path, outcome, code, detail, volume_id."""
        import pandas as pd

        return pd.read_parquet(self.path / "ledger.parquet")

    @cached_property
    def _places(self) -> dict[str, int]:
        """The row of each volume. A dict for every row would take 3 kB a volume, this 0.1."""
        return {str(name): row for row, name in enumerate(self.manifest["volume_id"])}

    @cached_property
    def _columns(self) -> dict[str, Any]:
        """Arrays that pick a value in a fraction of the time a data frame takes."""
        return {str(name): column.array for name, column in self.manifest.items()}

    def rows(self, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """The manifest row by row, as plain values: all columns, or those of these that it has."""
        with pq.ParquetFile(self.path / "manifest.parquet") as file:
            return iter(file.read(columns=columns).to_pylist())

    def columns(self, names: Sequence[str]) -> pa.Table:
        """Some columns of the manifest as an Arrow table, without reading the others.

        Raises:
            KeyError: the manifest has no such column.
        """
        with pq.ParquetFile(self.path / "manifest.parquet") as file:  # read_table imports pandas
            missing = sorted(set(names) - set(file.schema_arrow.names))
            if missing:
                raise KeyError(missing[0])
            return file.read(columns=list(names))

    def column_names(self) -> list[str]:
        """Names of the manifest's columns, without reading it."""
        return [str(name) for name in pq.read_schema(self.path / "manifest.parquet").names]

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __getitem__(self, volume_id: str) -> Volume:
        try:
            place = self._places[volume_id]
        except KeyError:
            raise MedsslError("VOLUME_UNKNOWN", "No such volume", where=volume_id) from None
        values = {name: column[place] for name, column in self._columns.items()}
        # Python's own numbers, as `to_dict("records")` gives them
        row = {k: v.item() if isinstance(v, np.generic) else v for k, v in values.items()}
        return Volume(self.path, row, self._maps)

    def label_columns(self) -> list[str]:
        """Names of the labels of whole volumes (classes, ages, ...)."""
        columns = [str(column) for column in self.manifest.columns]
        return [c.removeprefix(LABEL_PREFIX) for c in columns if c.startswith(LABEL_PREFIX)]

    def fingerprint(self) -> str:
        """SHA-256 over the ids and hashes of all volumes and label maps."""
        digest = hashlib.sha256()
        columns = ["volume_id", "subject_id", "sha256", "label_sha256"]
        table = self.columns(columns).to_pydict()
        for row in zip(*(table[name] for name in columns), strict=True):
            digest.update("|".join(map(str, row)).encode())
        return digest.hexdigest()
