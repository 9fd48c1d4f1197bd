"""The keys of a view's config that change intensity, and which changes suit which modality."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from medssl.config import StrictModel
from medssl.errors import MedsslError
from medssl.views import IntensitySettings
from medssl.views.intensity import KINDS, Kind, Range

Modality = Literal["MR", "CT", "PT", "XR", "US"]

_ANY: frozenset[Kind] = frozenset(
    {"style", "blur", "low_resolution", "contrast", "brightness", "gamma", "noise"}
)
# Which changes can happen to an image of a modality. Coils, k-space and motion between its lines
# are of MR alone. A window is chosen in CT alone, as nothing else has a unit. Slices are thick
# where there are slices. XR: all projections (CR, DX, MG, RF, XA).
FITTING: dict[Modality, frozenset[Kind]] = {
    "MR": _ANY | {"bias", "motion", "ghost", "spike", "thick_slices"},
    "CT": _ANY | {"window", "thick_slices"},
    "PT": _ANY | {"thick_slices"},
    "XR": _ANY,
    "US": _ANY,
}

# DICOM's code words, as a manifest has them.
CODES: dict[str, Modality] = {
    "MR": "MR", "CT": "CT", "PT": "PT", "US": "US",
    "CR": "XR", "DX": "XR", "MG": "XR", "RF": "XR", "XA": "XR",
}  # fmt: skip

_COMMON: dict[str, Any] = {
    "contrast": (0.75, 1.25),
    "brightness": 0.2,
    "gamma": (0.7, 1.5),
    "noise": 0.1,
    "blur": (0.5, 1.0),
    "low_resolution": (1.0, 2.0),
    "probabilities": {"blur": 0.2, "low_resolution": 0.15, "noise": 0.2, "gamma": 0.3},
}
# What `modality` alone asks for. Strengths are those in common use in segmentation (nnU-Net,
# TorchIO), and artefacts are rare, as they are in practice; none was tuned here.
PRESETS: dict[Modality, dict[str, Any]] = {
    "MR": {
        **_COMMON,
        "gamma_inverted": 0.25,
        "rician": True,
        "bias": 0.2,
        "motion": (5.0, 3.0),
        "ghost": (0.3, 0.8),
        "spike": (0.2, 0.6),
        "thick_slices": (1.0, 4.0),
        "probabilities": {
            **_COMMON["probabilities"],
            **{"bias": 0.3, "motion": 0.05, "ghost": 0.05, "spike": 0.05, "thick_slices": 0.15},
        },
    },
    "CT": {
        **_COMMON,
        "contrast": (0.9, 1.1),
        "brightness": 0.05,
        "gamma": (0.8, 1.25),
        "window": (0.6, 1.0),
        "thick_slices": (1.0, 4.0),
        "probabilities": {**_COMMON["probabilities"], "window": 0.3, "thick_slices": 0.15},
    },
    "PT": {**_COMMON, "noise": 0.2, "blur": (0.5, 1.5)},
    "XR": {**_COMMON, "gamma_inverted": 0.25},
    "US": dict(_COMMON),
}


class IntensityConfig(StrictModel):
    """What may change the intensity of a view. Each kind that is asked for happens to a view with
    ``probability``, or with its own of ``probabilities``. Deviations are those of each channel.
    """

    modality: Modality | None = Field(
        None,
        description="of all scans: asks for changes that suit it, at strengths in common use "
        "(keys that are given win), and refuses those that cannot happen to it",
    )
    probability: float = Field(0.5, ge=0, le=1, description="of each change")
    probabilities: dict[Kind, float] = Field(
        default_factory=dict, description="of single changes, by the name of their key"
    )
    style: Literal["batch", "sample"] | None = Field(
        None,
        description="give all images the low-frequency amplitudes of one (`batch`), or each those "
        "of another (`sample`); for batches that mix scanners",
    )
    style_radius: Range = Field(
        (0.02, 0.2), description="up to which share of the highest frequency, a range"
    )
    window: Range | None = Field(
        None,
        description="CT: range of the width of a window, drawn inside the contract's, as a share",
    )
    bias: float = Field(
        0.0, ge=0, description="MR: largest coefficient of the bias field's polynomial"
    )
    motion: Range | None = Field(
        None, description="MR: largest angle in degrees and largest shift of a moved pose"
    )
    ghost: Range | None = Field(
        None, description="MR: what every n-th line of k-space loses, a range within 0 to 1"
    )
    ghosts: tuple[int, int] = Field((2, 5), description="fewest and most ghosts")
    spike: Range | None = Field(
        None, description="MR: range of the amplitude of stripes, in standard deviations"
    )
    blur: Range | None = Field(None, description="range of a Gaussian's sigma")
    blur_each_axis: bool = Field(False, description="every axis its own sigma")
    low_resolution: Range | None = Field(
        None, description="range of the factor by which the grid is made coarser and back"
    )
    thick_slices: Range | None = Field(None, description="the same along one random axis")
    contrast: Range | None = Field(None, description="range of the factor about the mean")
    brightness: float = Field(0.0, ge=0, description="largest shift, in standard deviations")
    gamma: Range | None = Field(None, description="range of the exponent")
    gamma_inverted: float = Field(
        0.0, ge=0, le=1, description="share of the gamma changes made to the inverted image"
    )
    noise: float = Field(0.0, ge=0, description="largest, in standard deviations of the image")
    rician: bool = Field(False, description="noise of a magnitude image (MR), not Gaussian")
    unit: Literal["voxel", "mm"] = Field(
        "voxel", description="of `blur` and of the shift of `motion`"
    )

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, given: Any) -> Any:
        if not isinstance(given, dict) or given.get("modality") not in PRESETS:
            return given
        preset = PRESETS[given["modality"]]
        own = given.get("probabilities")
        chances = preset["probabilities"] | own if isinstance(own, dict) else None
        return {**preset, **given, **({"probabilities": chances} if chances is not None else {})}

    @model_validator(mode="after")
    def _sound(self) -> Self:
        limits: dict[str, tuple[float, float]] = {
            "style_radius": (0.0, 2.0), "window": (0.01, 1.0), "ghost": (0.0, 1.0),
            "ghosts": (2, 1000), "spike": (0.0, 1e6), "blur": (0.0, 1e6),
            "low_resolution": (1.0, 1e6), "thick_slices": (1.0, 1e6), "contrast": (0.01, 100.0),
            "gamma": (0.01, 100.0),
        }  # fmt: skip
        for name, (least, most) in limits.items():
            span = getattr(self, name)
            if span is not None and not least <= span[0] <= span[1] <= most:
                raise ValueError(f"{name} must be a range, ascending, within {least} to {most}")
        if self.motion is not None and min(self.motion) < 0:
            raise ValueError("motion is a largest angle and a largest shift, not below 0")
        if any(not 0 <= chance <= 1 for chance in self.probabilities.values()):
            raise ValueError("a probability lies in 0 to 1")
        self.check_modality(self.modality)
        return self

    @classmethod
    def for_modality(cls, code: str) -> Self:
        """What suits scans of a modality.

        Args:
            code: as a manifest has it (`CODES`); nothing changes for any other.
        """
        return cls(modality=CODES.get(code))

    def asked(self) -> list[Kind]:
        """The kinds of change that may happen."""
        settings = self.intensity_settings()
        return [kind for kind in KINDS if settings.asked(kind)]

    def check_modality(self, modality: Modality | None) -> None:
        """Refuses changes that cannot happen to a modality, as MR artefacts on CT.

        Raises:
            ValueError: names them.
        """
        if modality is None:
            return
        wrong = {str(kind) for kind in self.asked()} - FITTING[modality]
        if self.rician and modality != "MR":
            wrong.add("rician noise")
        if wrong:
            raise ValueError(f"{', '.join(sorted(wrong))} cannot happen to {modality}")

    def intensity_settings(self) -> IntensitySettings:
        """The same as the views room takes it."""
        values = {name: getattr(self, name) for name in IntensityConfig.model_fields}
        del values["modality"]
        return IntensitySettings(**values)


def check_views(config: StrictModel, codes: Iterable[str], scheme: str, within: str = "") -> None:
    """Refuses views that cannot happen to the scans they are drawn from.

    Args:
        config: of a method or a task, whose fields may hold view configs, or configs that do.
        codes: the scans' modalities, as a manifest has them.
        scheme: of the intensity contract.
        within: the key that holds this config, with a dot.

    Raises:
        MedsslError: CONFIG_INVALID, naming the field.
    """
    codes = list(codes)
    present = {CODES[code] for code in codes if code in CODES}
    for name in type(config).model_fields:
        view = getattr(config, name)
        if not isinstance(view, IntensityConfig):
            if isinstance(view, StrictModel):
                check_views(view, codes, scheme, f"{within}{name}.")
            continue
        try:
            for modality in sorted(present):
                view.check_modality(modality)
        except ValueError as error:
            raise MedsslError(
                "CONFIG_INVALID",
                str(error),
                where=within + name,
                fix="Leave it out, or train on one modality at a time.",
            ) from None
        if "window" in view.asked() and scheme != "window":
            raise MedsslError(
                "CONFIG_INVALID",
                f"There is no window to change where intensities are scaled by {scheme}",
                where=within + name,
                fix="Leave `window` out, or set intensity.scheme=window.",
            )
