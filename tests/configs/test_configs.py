from pathlib import Path

import pytest
import torch

from medssl import config as configuration
from medssl.bundle import Architecture, EncoderSpec, build
from medssl.finetune import FinetuneConfig
from medssl.methods import Samples, check_views, method_class
from medssl.training.pretrain import PretrainConfig

ROOT = Path(__file__).parents[2] / "configs"


def files(folder):
    return sorted((ROOT / folder).glob("*.yaml"))


@pytest.mark.parametrize("file", files("pretrain"), ids=lambda f: f.stem)
def test_pretraining_presets_are_valid_and_their_method_can_be_built(file):
    preset = configuration.load(PretrainConfig, file)
    kind = method_class(preset.method)
    options = configuration.load(kind.Config, values=preset.options)
    dims = preset.dims or (2 if "2d" in file.stem else 3)
    spec = EncoderSpec(name=preset.encoder, dims=dims, options=preset.encoder_options)
    with torch.device("meta"):  # of full size, but without memory
        encoder = build(Architecture(encoder=spec)).encoder
        method = kind(options, encoder, Samples(tuple(preset.patch_size or [32] * dims)))
    assert method.bundle_state()


@pytest.mark.parametrize(
    ("name", "modality", "scheme"),
    [
        ("brain_mr", "MR", "zscore"),
        ("body_ct", "CT", "window"),
        ("chest_xray", "DX", "zscore"),
        ("ophthalmic", "OP", "zscore"),
    ],
)
def test_the_views_of_a_preset_can_happen_to_its_images(name, modality, scheme):
    preset = configuration.load(PretrainConfig, ROOT / "pretrain" / f"{name}.yaml")
    options = configuration.load(method_class(preset.method).Config, values=preset.options)
    check_views(options, [modality], preset.intensity.scheme if preset.intensity else scheme)
    for extent in (preset.spacing, preset.crop_mm, preset.patch_size):
        assert extent is None or len(extent) == preset.dims


@pytest.mark.parametrize("file", files("finetune"), ids=lambda f: f.stem)
def test_finetuning_presets_are_valid(file):
    assert configuration.load(FinetuneConfig, file).steps > 1
