from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from medssl.config import StrictModel, load
from medssl.errors import MedsslError
from medssl.methods.intensity_config import (
    CODES,
    FITTING,
    PRESETS,
    IntensityConfig,
    check_views,
)
from medssl.methods.view_config import ViewConfig
from medssl.views import Draw, IntensityParams, IntensitySettings, sample_key
from medssl.views.intensity import KINDS


def test_every_setting_of_intensity_is_a_key_and_passes_through():
    fields = {field.name for field in dataclasses.fields(IntensitySettings)}
    assert fields == set(IntensityConfig.model_fields) - {"modality"}
    assert IntensityConfig().intensity_settings() == IntensitySettings()
    given = IntensityConfig(blur=(0.5, 1), rician=True, probabilities={"blur": 0.2}, unit="mm")
    expected = IntensitySettings(blur=(0.5, 1), rician=True, probabilities={"blur": 0.2}, unit="mm")
    assert given.intensity_settings() == expected
    assert ViewConfig(noise=0.3).settings().intensity == IntensitySettings(noise=0.3)
    assert all(field.description for field in IntensityConfig.model_fields.values())


@pytest.mark.parametrize("modality", FITTING)
@pytest.mark.parametrize("dims", [2, 3])
def test_presets_suit_their_modality_and_run(modality: str, dims: int):
    config = ViewConfig(modality=modality)
    assert set(config.asked()) <= FITTING[modality]
    assert set(config.asked()) >= {"noise", "blur", "contrast", "gamma"}
    assert set(config.probabilities) <= set(config.asked())
    draw = Draw(torch.tensor([sample_key(0, 0, index) for index in range(6)]))
    x = torch.rand(6, 1, *(10,) * dims) * 2 - 1
    got = IntensityParams.draw(draw, config.intensity_settings()).apply(x)
    assert got.isfinite().all()
    assert not torch.equal(got, x)


def test_what_cannot_happen_to_a_modality():
    artefacts = {"bias", "motion", "ghost", "spike"}
    assert artefacts <= FITTING["MR"]
    assert not artefacts & FITTING["CT"]
    assert "window" in FITTING["CT"]
    assert "window" not in FITTING["MR"]
    assert set().union(*FITTING.values()) == set(KINDS)
    assert set(PRESETS) == set(FITTING) == set(CODES.values())
    with pytest.raises(ValidationError, match="motion cannot happen to CT"):
        ViewConfig(modality="CT", motion=(5, 2))
    with pytest.raises(ValidationError, match="window cannot happen to MR"):
        ViewConfig(modality="MR", window=(0.5, 1))
    with pytest.raises(ValueError, match="bias, ghost cannot happen to CT"):
        ViewConfig(bias=0.2, ghost=(0.1, 0.2)).check_modality("CT")
    with pytest.raises(ValidationError, match="rician noise cannot happen to CT"):
        ViewConfig(modality="CT", rician=True)
    ViewConfig(bias=0.2, rician=True).check_modality(None)


def test_keys_that_are_given_win_over_the_preset():
    config = ViewConfig(modality="MR", noise=0.0, blur=(2, 3), probabilities={"bias": 0.9})
    assert config.noise == 0.0
    assert config.blur == (2, 3)
    assert config.bias == PRESETS["MR"]["bias"]
    assert config.probabilities["bias"] == 0.9
    assert config.probabilities["gamma"] == PRESETS["MR"]["probabilities"]["gamma"]


def test_a_stored_config_is_read_back_as_it_was():
    config = ViewConfig(modality="CT", probabilities={"window": 1.0})
    assert ViewConfig.model_validate(config.model_dump()) == config
    assert ViewConfig.model_validate_json(config.model_dump_json()) == config


def test_by_the_manifests_code():
    assert ViewConfig.for_modality("DX") == ViewConfig(modality="XR")
    assert ViewConfig.for_modality("OT") == ViewConfig()


@pytest.mark.parametrize(
    "wrong",
    [
        {"window": (0.5, 1.5)},
        {"window": (0.0, 1.0)},
        {"gamma": (1.5, 0.7)},
        {"low_resolution": (0.5, 2)},
        {"ghost": (0.5, 1.5)},
        {"ghosts": (1, 4)},
        {"probabilities": {"noise": 1.5}},
        {"probabilities": {"nose": 0.5}},
        {"modality": "MRI"},
        {"noise": -0.1},
        {"motion": (5, -2)},
    ],
    ids=str,
)
def test_refusals(wrong: dict[str, object]):
    with pytest.raises(ValidationError):
        ViewConfig(**wrong)


def test_a_wrong_file_is_an_error_with_a_code(tmp_path: Path):
    path = tmp_path / "view.yaml"
    path.write_text("modality: CT\nspike: [0.1, 0.2]\n", encoding="utf-8")
    with pytest.raises(MedsslError, match="cannot happen to CT") as caught:
        load(ViewConfig, path)
    assert caught.value.code == "CONFIG_INVALID"


class Options(StrictModel):
    """As a method's config holds its views."""

    temperature: float = 0.1
    view: ViewConfig = ViewConfig()
    local: ViewConfig = ViewConfig()


def test_views_that_cannot_happen_to_the_scans_are_refused():
    motion = Options(local=ViewConfig(motion=(5, 2)))
    window = Options(view=ViewConfig(window=(0.5, 1)))
    check_views(motion, ["MR", "OT"], "zscore")
    check_views(window, ["CT"], "window")
    check_views(Options(), ["MR", "CT", "SR"], "zscore")
    for config, codes, scheme, where, why in [
        (motion, ["MR", "CT"], "zscore", "local", "motion cannot happen to CT"),
        (window, ["MR"], "window", "view", "window cannot happen to MR"),
        (window, ["CT"], "zscore", "view", "no window to change"),
    ]:
        with pytest.raises(MedsslError, match=why) as caught:
            check_views(config, codes, scheme)
        assert (caught.value.code, caught.value.where) == ("CONFIG_INVALID", where)
