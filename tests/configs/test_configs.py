from pathlib import Path

import pytest

from medssl import config as configuration
from medssl.bundle import Architecture, EncoderSpec, build
from medssl.finetune import FinetuneConfig
from medssl.methods import method_class
from medssl.training.pretrain import PretrainConfig

ROOT = Path(__file__).parents[2] / "configs"


def files(folder):
    return sorted((ROOT / folder).glob("*.yaml"))


@pytest.mark.parametrize("file", files("pretrain"), ids=lambda f: f.stem)
def test_pretraining_presets_are_valid_and_their_method_can_be_built(file):
    preset = configuration.load(PretrainConfig, file)
    kind = method_class(preset.method)
    options = configuration.load(kind.Config, values=preset.options)
    dims = 2 if "2d" in file.stem else 3
    spec = EncoderSpec(name=preset.encoder, dims=dims, options=preset.encoder_options)
    encoder = build(Architecture(encoder=spec)).encoder
    method = kind(options, encoder, preset.patch_size or [32] * dims)
    assert method.bundle_state()


@pytest.mark.parametrize("file", files("finetune"), ids=lambda f: f.stem)
def test_finetuning_presets_are_valid(file):
    assert configuration.load(FinetuneConfig, file).steps > 1
