"""What a fine-tuning run depends on beside the store and the weights it starts from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator

from medssl.bundle import Bundle, EncoderSpec, InputContract
from medssl.errors import MedsslError
from medssl.methods.view_config import ViewConfig
from medssl.store import Store
from medssl.store.intensity import IntensityContract
from medssl.training.pretrain import automatic_patch
from medssl.training.settings import LoopConfig

Kind = Literal["segmentation", "classification", "regression"]

AUGMENT = ViewConfig(
    rotation=15.0,
    scale=(0.85, 1.15),
    gamma=(0.8, 1.25),
    contrast=(0.8, 1.2),
    brightness=0.1,
    noise=0.1,
)


class FinetuneConfig(LoopConfig):
    """Options of fine-tuning.

    ``encoder``, ``encoder_options``, ``patch_size``, ``spacing`` and ``intensity`` come from the
    bundle where one is given; those stated here win (an encoder that differs then fails loudly at
    the weight transfer). ``foreground`` is the share of crops centred on a labelled voxel.
    ``validate_every`` steps, up to ``validation_volumes`` whole volumes are segmented to follow
    progress; 0 turns that off. ``report`` names the splits that are measured at the end. The
    weights kept are the last ones: nothing is selected on validation or test subjects. ``freeze``
    trains the head alone. Regression does not zoom where ``augment`` is not stated: that would
    change a number that is a size.
    """

    steps: int = Field(500, ge=1)
    encoder: str | None = None
    encoder_options: dict[str, Any] | None = None
    patch_size: list[int] | None = None
    spacing: list[float] | None = None
    intensity: IntensityContract | None = None
    augment: ViewConfig = AUGMENT
    skip_absent: bool = Field(
        False, description="leave classes absent from a crop out of its Dice loss"
    )
    foreground: float = Field(0.33, ge=0, le=1)
    split: str | dict[str, float] | None = Field(
        None,
        description="NAME or NAME:FOLD, of `medssl split`; or fractions, where the store has none",
    )
    split_seed: int = 0
    label_seed: int = Field(0, description="which subjects are the N labelled ones")
    window: list[int] | None = Field(
        None, description="sliding window over whole volumes, voxels; the patch where not given"
    )
    transfer_minimum: float = Field(0.8, ge=0, le=1)
    transfer_decoder: bool = True
    transfer_lr: float = Field(
        1.0, gt=0, le=1, description="factor on lr of the weights that come from the bundle"
    )
    freeze: bool = False
    validate_every: int = Field(0, ge=0)
    validation_volumes: int = Field(8, ge=1)
    report: tuple[Literal["validation", "test"], ...] = ("validation", "test")
    nsd_tolerance_mm: float | dict[str, float] = Field(
        1.0, description="how far a surface may be off in NSD: for all labels, or by label name"
    )

    def of_kind(self, kind: Kind) -> FinetuneConfig:
        """With the default augmentation of a kind of task, where none is stated."""
        if kind != "regression" or "augment" in self.model_fields_set:
            return self
        unzoomed = AUGMENT.model_copy(update={"scale": (1.0, 1.0)})
        return self.model_copy(update={"augment": unzoomed})

    @field_validator("nsd_tolerance_mm")
    @classmethod
    def _above_zero(cls, given: float | dict[str, float]) -> float | dict[str, float]:
        if min(given.values(), default=0) <= 0 if isinstance(given, dict) else given <= 0:
            raise ValueError("a tolerance must be above 0")
        return given

    def tolerances(self, label_names: Mapping[int, str]) -> dict[int, float]:
        """The tolerance of NSD of every label, in mm.

        Raises:
            MedsslError: CONFIG_INVALID, where it is given by name and the names are not the labels.
        """
        given = self.nsd_tolerance_mm
        if not isinstance(given, dict):
            return dict.fromkeys(label_names, given)
        if set(given) != set(label_names.values()):
            raise MedsslError(
                "CONFIG_INVALID",
                f"The store has the labels {sorted(label_names.values())}, not {sorted(given)}",
                where="nsd_tolerance_mm",
                fix="Give one number for all, or one for each of them.",
            )
        return {value: given[name] for value, name in label_names.items()}


def architecture(
    store: Store, volume_ids: list[str], config: FinetuneConfig, bundle: Bundle | None
) -> tuple[EncoderSpec, InputContract]:
    """The encoder and the input contract: the bundle's, else the config's, else the store's.

    Raises:
        MedsslError: CONTRACT_MISMATCH where the bundle has no encoder for these volumes;
            CONFIG_INVALID.
    """
    table = store.manifest.set_index("volume_id").loc[volume_ids]
    dims: Literal[2, 3] = 2 if int(table["dims"].iloc[0]) == 2 else 3
    channels = int(table["channels"].iloc[0])
    given = bundle.for_dims(dims).spec if bundle else None
    parent = given.contract if given else None
    base = given.architecture.encoder if given else EncoderSpec(dims=dims)
    options = base.options if config.encoder_options is None else config.encoder_options
    spec = EncoderSpec(
        name=config.encoder or base.name, dims=dims, in_channels=channels, options=options
    )
    patch = config.patch_size or (parent.patch_size if parent else None)
    intensity = config.intensity or (parent.intensity if parent else None)
    contract = InputContract(
        dims=dims,
        channels=channels,
        spacing=config.spacing or (parent.spacing if parent else None),
        patch_size=patch or automatic_patch(table["shape"].tolist(), dims),
        intensity=intensity or IntensityContract.for_volumes(table),
        modalities=sorted(table["modality"].unique().tolist()),
    )
    for name, size in (("patch_size", contract.patch_size), ("window", config.window)):
        if size is not None and len(size) != dims:
            raise MedsslError("CONFIG_INVALID", f"It has {dims} sizes here", where=name)
    return spec, contract
