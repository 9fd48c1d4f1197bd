"""The Bundle: weights in safetensors, and the contract for using them in ``bundle.json``.

No pickle is read or written. Loading verifies the weights' hash and the format.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import secrets
import shutil
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import Field, ValidationError, model_validator

from medssl.card import card
from medssl.config import StrictModel
from medssl.errors import MedsslError
from medssl.store.arrays import file_hash
from medssl.store.intensity import IntensityContract

if TYPE_CHECKING:
    from torch import Tensor, nn

    from medssl.networks import PlaceEmbedding

    M = TypeVar("M", bound=nn.Module)

FORMAT_VERSION = 1
WEIGHTS, SPEC, CARD = "model.safetensors", "bundle.json", "README.md"


class EncoderSpec(StrictModel):
    """An encoder by name and options, as :func:`medssl.networks.build_encoder` takes them."""

    name: str = "unet"
    dims: Literal[2, 3] = 3
    in_channels: int = Field(1, ge=1)
    options: dict[str, Any] = Field(default_factory=dict)


class TaskSpec(StrictModel):
    """The task a model was fine-tuned for, and its number of outputs: 1 of regression, else at
    least 2."""

    kind: Literal["segmentation", "classification", "regression"]
    classes: int = Field(ge=1)

    @model_validator(mode="after")
    def _outputs(self) -> TaskSpec:
        if (self.classes == 1) != (self.kind == "regression"):
            raise ValueError("regression has one output, other tasks have at least two")
        return self


class TargetSpec(StrictModel):
    """The number that a regression predicts: the model's output, times ``std``, plus ``mean``.

    Both are those of the training volumes, in the target's own unit.
    """

    name: str
    mean: float
    std: float = Field(gt=0)

    def in_units(self, output: float) -> float:
        """The prediction that an output of the model stands for."""
        return self.mean + self.std * output


class Architecture(StrictModel):
    """An encoder, the task around it (None: the encoder alone), and the sizes of the heads that
    make it a :class:`medssl.networks.PlaceEmbedding` (None: there are none)."""

    encoder: EncoderSpec
    task: TaskSpec | None = None
    embedding: dict[str, int] | None = None


class InputContract(StrictModel):
    """What an input must be, and how it is prepared, before the network sees it.

    ``spacing`` in mm per spatial axis, None to use every volume's own grid; ``patch_size`` in
    voxels; ``modalities`` are DICOM codes, empty for any.
    """

    dims: Literal[2, 3]
    channels: int = 1
    spacing: list[float] | None = None
    orientation: Literal["RAS"] = "RAS"
    intensity: IntensityContract = IntensityContract()
    patch_size: list[int]
    modalities: list[str] = Field(default_factory=list)


class BundleSpec(StrictModel):
    """``bundle.json``."""

    format_version: int = FORMAT_VERSION
    kind: Literal["encoder", "segmentation", "classification", "regression"]
    architecture: Architecture
    contract: InputContract
    method: str = ""
    config: dict[str, Any] = Field(default_factory=dict)
    label_names: dict[int, str] = Field(default_factory=dict)
    classes: list[str] = Field(default_factory=list)
    target: TargetSpec | None = None
    salt: str = ""
    seen_subjects: list[str] = Field(default_factory=list)
    metrics: dict[str, float] = Field(default_factory=dict)
    data_fingerprint: str = ""
    versions: dict[str, str] = Field(default_factory=dict)
    licence: str = "Not stated. The weights carry the terms of the data they were trained on."
    mlflow_run: str = ""
    weights_sha256: str = ""

    def has_seen(self, subject_id: str) -> bool:
        """Whether the weights were trained on this subject (a pseudonym)."""
        return seen_hash(self.salt, subject_id) in set(self.seen_subjects)


def seen_hash(salt: str, subject_id: str) -> str:
    """Salted SHA-256 of a subject's pseudonym."""
    return hashlib.sha256(f"{salt}:{subject_id}".encode()).hexdigest()[:32]


def seen_record(subjects: Iterable[str], parent: BundleSpec | None = None) -> dict[str, Any]:
    """The ``salt`` and ``seen_subjects`` of a new bundle, those of its parent included."""
    salt = parent.salt if parent is not None and parent.salt else secrets.token_hex(8)
    hashes = {seen_hash(salt, subject) for subject in subjects}
    if parent is not None:
        hashes |= set(parent.seen_subjects)
    return {"salt": salt, "seen_subjects": sorted(hashes)}


def versions() -> dict[str, str]:
    """Versions of what made the weights."""
    names = ("medssl", "torch", "monai", "numpy")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in names}}


def build(architecture: Architecture) -> nn.Module:
    """The network of an architecture, with random weights (torch's global generator).

    Raises:
        MedsslError: ENCODER_UNKNOWN, or CONFIG_INVALID for options the encoder does not take.
    """
    from medssl.networks import ENCODERS, build_model

    name = architecture.encoder.name
    if name not in ENCODERS:
        raise MedsslError(
            "ENCODER_UNKNOWN",
            f"There is no encoder {name}",
            fix=f"There are: {', '.join(ENCODERS)}.",
        )
    try:
        model: nn.Module = build_model(architecture.model_dump())
    except (ValueError, TypeError) as error:
        raise MedsslError("CONFIG_INVALID", str(error), where="encoder_options") from None
    return model


class Bundle:
    """A folder of weights and contract; made by :meth:`save`, opened by :meth:`load`."""

    def __init__(self, path: Path, spec: BundleSpec) -> None:
        self.path, self.spec = path, spec

    @classmethod
    def save(cls, path: Path, model: nn.Module | Mapping[str, Tensor], spec: BundleSpec) -> Bundle:
        """Write a bundle whole or not at all.

        Args:
            path: a folder that does not exist.
            model: a module or its state; tensors are stored contiguous, on the CPU.
            spec: all but ``weights_sha256`` and ``versions``, which are filled in here.

        Raises:
            MedsslError: OUT_EXISTS.
        """
        from safetensors.torch import save_file

        if path.exists():
            raise MedsslError("OUT_EXISTS", "The bundle already exists", where=path.name)
        state = model if isinstance(model, Mapping) else model.state_dict()
        tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
        work = path.parent / f".{path.name}.partial-{os.getpid()}"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        save_file(tensors, work / WEIGHTS)
        update = {"weights_sha256": file_hash(work / WEIGHTS), "versions": versions()}
        spec = spec.model_copy(update=update)
        (work / SPEC).write_text(spec.model_dump_json(indent=2) + "\n", encoding="utf-8")
        count = sum(tensor.numel() for tensor in tensors.values())
        (work / CARD).write_text(card(spec.model_dump(), count), encoding="utf-8")
        work.rename(path)
        return cls(path, spec)

    @classmethod
    def load(cls, path: Path | str) -> Bundle:
        """Open a bundle and verify its weights.

        Raises:
            MedsslError: INPUT_MISSING, BUNDLE_INVALID, BUNDLE_FORMAT, BUNDLE_CORRUPT.
        """
        path = Path(path)
        if not path.exists():
            raise MedsslError("INPUT_MISSING", "The bundle does not exist", where=path.name)
        for name in (SPEC, WEIGHTS):
            if not (path / name).is_file():
                raise MedsslError("BUNDLE_INVALID", f"The folder has no {name}", where=path.name)
        try:
            data = json.loads((path / SPEC).read_text(encoding="utf-8"))
            if data.get("format_version") != FORMAT_VERSION:
                raise MedsslError(
                    "BUNDLE_FORMAT",
                    f"The bundle has format {data.get('format_version')}; "
                    f"this medssl reads {FORMAT_VERSION}",
                    where=path.name,
                )
            spec = BundleSpec.model_validate(data)
        except (ValueError, ValidationError, AttributeError):
            raise MedsslError("BUNDLE_INVALID", "bundle.json is damaged", where=path.name) from None
        if file_hash(path / WEIGHTS) != spec.weights_sha256:
            raise MedsslError(
                "BUNDLE_CORRUPT",
                "The weights differ from their recorded hash",
                where=path.name,
                fix="Copy the bundle again from its source.",
            )
        return cls(path, spec)

    def state(self) -> dict[str, Tensor]:
        """The weights by name, on the CPU."""
        from safetensors.torch import load_file

        state: dict[str, Tensor] = load_file(self.path / WEIGHTS)
        return state

    def model(self) -> nn.Module:
        """The network with its weights, in evaluation mode, on the CPU.

        An encoder bundle's decoder, where it has one, is left out.

        Raises:
            MedsslError: BUNDLE_INVALID where weights and architecture differ.
        """
        return self._filled(build(self.spec.architecture))

    def embedding(self) -> PlaceEmbedding:
        """What says where in the body each voxel is, in evaluation mode, on the CPU.

        Raises:
            MedsslError: EMBEDDING_MISSING, BUNDLE_INVALID where weights and architecture differ.
        """
        from medssl.networks import build_embedding

        if self.spec.architecture.embedding is None:
            raise MedsslError(
                "EMBEDDING_MISSING",
                "The bundle has no embedding of places",
                where=self.path.name,
                fix="Pretrain one with --method anatomical_embedding.",
            )
        try:
            made = build_embedding(self.spec.architecture.model_dump())
        except (ValueError, TypeError) as error:
            raise MedsslError("BUNDLE_INVALID", str(error), where="embedding") from None
        return self._filled(made)

    def _filled(self, model: M) -> M:
        state, wanted = self.state(), model.state_dict()
        unfit = [k for k, v in wanted.items() if k not in state or state[k].shape != v.shape]
        if unfit:
            raise MedsslError(
                "BUNDLE_INVALID",
                f"{len(unfit)} tensors do not fit the stated architecture",
                where=unfit[0],
            )
        model.load_state_dict({name: state[name] for name in wanted})
        return model.eval()
