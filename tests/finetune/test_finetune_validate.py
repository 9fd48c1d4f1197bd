from __future__ import annotations

import math

import pandas as pd
import pytest
from pydantic import ValidationError

from medssl.errors import MedsslError
from medssl.finetune.config import FinetuneConfig
from medssl.finetune.validate import summarise_segmentation


def test_means_are_over_subjects_and_missed_structures_are_counted():
    nan = math.nan
    rows = [
        # subject, label, dice, nsd, hd95, empty: one subject has two volumes
        ("a", "liver", 1.0, 1.0, 0.0, ""),
        ("a", "liver", 0.5, 0.5, 2.0, ""),
        ("b", "liver", 0.0, 0.0, 90.0, "prediction"),
        ("a", "spleen", nan, nan, nan, "both"),
        ("b", "spleen", 0.0, 0.0, 90.0, "truth"),
    ]
    columns = ["subject_id", "label", "dice", "nsd", "hd95_mm", "empty"]
    found = summarise_segmentation(pd.DataFrame(rows, columns=columns), "test")
    assert found["test_dice_liver"] == pytest.approx(0.375)
    assert found["test_hd95_mm_spleen"] == 90.0
    assert found["test_dice"] == pytest.approx(0.1875)
    assert found["test_missed"] == 1


def test_the_tolerance_may_differ_by_label():
    names = {1: "liver", 4: "vein"}
    assert FinetuneConfig(nsd_tolerance_mm=2.0).tolerances(names) == {1: 2.0, 4: 2.0}
    by_name = FinetuneConfig(nsd_tolerance_mm={"vein": 0.5, "liver": 3.0})
    assert by_name.tolerances(names) == {1: 3.0, 4: 0.5}
    with pytest.raises(MedsslError, match="liver") as error:
        FinetuneConfig(nsd_tolerance_mm={"vein": 0.5}).tolerances(names)
    assert error.value.code == "CONFIG_INVALID"
    with pytest.raises(ValidationError):
        FinetuneConfig(nsd_tolerance_mm={"vein": 0.0})
