from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
import pytest

from medssl.errors import MedsslError
from medssl.evaluate.targets import number_targets


def store_of(**columns):
    table = pd.DataFrame({"volume_id": ["a", "b", "c"]})
    for name, values in columns.items():
        table[f"label:{name}"] = values
    return SimpleNamespace(label_columns=lambda: list(columns), manifest=table)


def test_volumes_without_the_number_are_left_out():
    assert number_targets(store_of(age=[61, None, 70.5]), None) == ("age", {"a": 61.0, "c": 70.5})
    assert number_targets(store_of(age=["61", "", "7e1"]), "age")[1] == {"a": 61.0, "c": 70.0}


@pytest.mark.parametrize(
    ("columns", "label"),
    [
        ({"age": [61, 62, 63]}, "weight"),
        ({"age": [61, 62, 63], "weight": [1, 2, 3]}, None),
        ({"age": ["61", "old", "70"]}, "age"),
        ({"age": [61, float("inf"), 70]}, "age"),
        ({"age": [None, None, None]}, "age"),
    ],
)
def test_what_is_no_number_is_refused(columns, label):
    with pytest.raises(MedsslError, match="LABEL_MISSING"):
        number_targets(store_of(**columns), label)
