from __future__ import annotations

import math

import pandas as pd
import pytest

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
