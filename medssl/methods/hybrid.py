"""Any masked method and any joint-embedding method on one encoder, their losses added."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, Self

from pydantic import Field, SerializeAsAny, ValidationInfo, field_validator, model_validator
from torch import Tensor, nn

from medssl import config as configuration
from medssl.config import StrictModel
from medssl.methods.base import Crops, Method, MethodConfig, Samples, Step
from medssl.methods.joint import JointEmbedding
from medssl.methods.masked import Masked
from medssl.networks import Encoder, cosine_between


class WeightConfig(StrictModel):
    """The weight of a loss over a run."""

    start: float = Field(1.0, ge=0)
    end: float | None = Field(None, ge=0, description="null: as at the start")
    shape: Literal["linear", "cosine"] = "linear"

    def at(self, progress: float) -> float:
        """The weight when so much of the run is done, from 0 to 1."""
        end = self.start if self.end is None else self.end
        if self.shape == "cosine":
            return cosine_between(self.start, end, progress)
        return self.start + (end - self.start) * min(1.0, max(0.0, progress))


class HybridConfig(MethodConfig):
    """Two methods by name, each with its own options, and what their losses weigh."""

    masked: str = Field("mae", description="a masked method")
    masked_options: SerializeAsAny[MethodConfig] = Field(
        MethodConfig(), validate_default=True, description="of that method"
    )
    masked_weight: WeightConfig = WeightConfig()
    joint: str = Field("simclr", description="a joint-embedding method")
    joint_options: SerializeAsAny[MethodConfig] = Field(
        MethodConfig(), validate_default=True, description="of that method"
    )
    joint_weight: WeightConfig = WeightConfig()

    @field_validator("masked", "joint")
    @classmethod
    def _of_its_kind(cls, name: str, info: ValidationInfo) -> str:
        kind = Masked if info.field_name == "masked" else JointEmbedding
        fitting = [other for other, method in _methods().items() if issubclass(method, kind)]
        if name not in fitting:
            raise ValueError(f"{name} is none of the methods that fit: {', '.join(fitting)}")
        return name

    @field_validator("masked_options", "joint_options", mode="before")
    @classmethod
    def _of_the_method(cls, options: Any, info: ValidationInfo) -> Any:
        name = info.data.get(str(info.field_name).removesuffix("_options"))
        if name is None or not isinstance(options, (dict, MethodConfig)):
            return options  # the name was refused already, or the options will be
        values = options if isinstance(options, dict) else options.model_dump()
        return configuration.load(_methods()[name].Config, values=values)

    @model_validator(mode="after")
    def _something_counts(self) -> Self:
        weights = (self.masked_weight, self.joint_weight)
        if all(w.at(0.0) == 0 for w in weights) or all(w.at(1.0) == 0 for w in weights):
            raise ValueError("at the start and at the end, one weight must be above 0")
        return self


def _methods() -> dict[str, type[Method]]:
    from medssl.methods import METHODS  # which has this method too

    return METHODS


class Hybrid(Method):
    """Both methods see the same crops, each in views of its own.

    Modules: ``masked``, which holds the encoder, and ``joint``.
    """

    Config = HybridConfig

    def __init__(self, config: HybridConfig, encoder: Encoder, samples: Samples) -> None:
        super().__init__(config, encoder, samples)
        self.masked, self.joint = (
            _methods()[name](options, encoder, samples)
            for name, options in (
                (config.masked, config.masked_options),
                (config.joint, config.joint_options),
            )
        )
        share_silently(self.joint, encoder)
        self._weights = config.masked_weight, config.joint_weight

    @property
    def encoder(self) -> Encoder:
        """The encoder of both."""
        encoder = self.masked.encoder
        assert isinstance(encoder, Encoder)
        return encoder

    def step(self, crops: Crops) -> Step:
        """The weighted sum of the two losses; a run is watched by what the joint one embeds."""
        for part in (self.masked, self.joint):
            part.number, part.progress = self.number, self.progress
        masked, joint = (
            part.step(own)
            for part, own in zip((self.masked, self.joint), self._own(crops), strict=True)
        )
        heavy, light = (weight.at(self.progress) for weight in self._weights)
        own_logs = {"masked_loss": masked.loss.detach(), "joint_loss": joint.loss.detach()}
        return replace(
            joint,
            loss=heavy * masked.loss + light * joint.loss,
            logs={**masked.logs, **joint.logs, **own_logs},
            trivial_loss=None,  # that of the sum is not known
        )

    def after_update(self, progress: float) -> None:
        """See `Method.after_update`."""
        self.masked.after_update(progress)
        self.joint.after_update(progress)

    def views(self, crops: Crops) -> list[Tensor]:
        """The masked method's view, then the joint one's."""
        masked, joint = self._own(crops)
        return [*self.masked.views(masked), *self.joint.views(joint)]

    def preview(self, crops: Crops) -> dict[str, Tensor]:
        """What both show."""
        masked, joint = self._own(crops)
        return {**self.masked.preview(masked), **self.joint.preview(joint)}

    def bundle_state(self) -> dict[str, Tensor]:
        """The masked method's: the encoder, and its decoder where there is one to transfer."""
        return self.masked.bundle_state()

    def _own(self, crops: Crops) -> tuple[Crops, Crops]:
        """The crops with random numbers for each of the two."""
        first, second = (replace(crops, draw=crops.draw.fork(1000 + k)) for k in range(2))
        return first, second


def share_silently(module: nn.Module, shared: nn.Module) -> None:
    """Leave a submodule to whoever else holds it: it can be called as before, but what it holds is
    no part of this module's state, so that a checkpoint has it once.
    """
    for holder in list(module.modules()):
        for name, child in list(holder._modules.items()):
            if child is shared:
                del holder._modules[name]
                holder.__dict__[name] = child
