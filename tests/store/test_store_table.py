import pyarrow.parquet as pq

from medssl.store.table import write_table

ROWS = [
    {"name": "ä", "n": 1, "x": 0.5, "l": [1, 2], "s": ["a", "bc"], "m": 1, "e": [], "o": 1},
    {"name": "", "n": 2**40, "x": -1e300, "l": [], "s": [], "m": None, "e": [], "o": 2.5},
]


def test_rows_come_back_as_they_were(tmp_path):
    write_table(tmp_path / "t", [*ROWS, {"name": "z", "n": 0, "x": 0.0, "l": [3], "s": [""]}])
    back = pq.read_table(tmp_path / "t").to_pylist()
    empty = {"name": "z", "n": 0, "x": 0.0, "l": [3], "s": [""], "m": None, "e": None, "o": None}
    assert back == [*ROWS, empty]


def test_the_types_are_those_of_pyarrow(tmp_path):
    import pyarrow as pa

    write_table(tmp_path / "t", ROWS)
    columns = {name: pa.array([row[name] for row in ROWS]) for name in ROWS[0]}
    assert pq.read_table(tmp_path / "t").equals(pa.table(columns))
