"""What a comparison of methods is told: data sets, their tasks, labels, seeds and lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from medssl import config as configuration
from medssl.bundle import EncoderSpec
from medssl.config import StrictModel
from medssl.errors import MedsslError
from medssl.finetune import FinetuneConfig
from medssl.finetune.config import Kind
from medssl.methods import METHODS, method_class
from medssl.training.pretrain import PretrainConfig

Labels = int | float  # a number of labelled subjects, or a share of them


def _list(given: Any) -> Any:
    return [given] if isinstance(given, str) else given


Names = Annotated[list[str] | None, BeforeValidator(_list)]


class TaskSettings(StrictModel):
    """What is learned from the labels of a data set.

    ``label`` names the column of classes where there are several. Regression learns the volume of
    all labelled voxels, in mm^3. ``frozen`` are the shares of labels at which the frozen encoder is
    probed, ``finetuned`` the shares or numbers of labelled subjects at which it is fine-tuned.
    """

    kind: Kind
    label: str | None = None
    frozen: list[float] = Field(default_factory=list)
    finetuned: list[Labels] = Field(default_factory=list)
    finetune: FinetuneConfig = FinetuneConfig()

    @model_validator(mode="after")
    def _readouts(self) -> TaskSettings:
        if self.kind == "segmentation" and self.frozen:
            raise ValueError("segmentation is fine-tuned only")
        if not all(0 < share <= 1 for share in self.frozen):
            raise ValueError("frozen has shares of the labels, in (0, 1]")
        return self


class DataSet(StrictModel):
    """One data set: where it lies below DATA, how encoders are pretrained on it, its tasks.

    ``encoders`` are names with their options; a method takes the first that it can be built with.
    ``passes`` is how many encoder passes each pretraining does (:mod:`medssl.studies.passes`).
    ``pretrain`` are keys of :class:`PretrainConfig`, the same for all methods; ``methods`` changes
    some of them for one method, by its name. With ``method`` among them, the name is that of an
    arm: the same method may be compared under several.
    """

    folder: str
    modality: str = "OT"
    label_names: dict[int, str] | None = None
    encoders: dict[str, dict[str, Any]]
    passes: int = Field(ge=1)
    pretrain: dict[str, Any] = Field(default_factory=dict)
    methods: dict[str, dict[str, Any]] = Field(default_factory=dict)
    tasks: dict[str, TaskSettings] = Field(default_factory=dict)

    def pretraining(self, method: str, encoder: str, seed: int, steps: int) -> PretrainConfig:
        """The configuration of one pretraining.

        Raises:
            MedsslError: CONFIG_UNKNOWN_KEY, CONFIG_INVALID.
        """
        own = self.methods.get(method, {})
        values = {
            "preview_every": steps,
            **self.pretrain,
            **own,
            "options": {**self.pretrain.get("options", {}), **own.get("options", {})},
            "method": own.get("method", method),
            "encoder": encoder,
            "encoder_options": self.encoders[encoder],
            "seed": seed,
            "steps": steps,
        }
        return configuration.load(PretrainConfig, values=values)

    def trained(self, method: str, encoder: str, dims: Literal[2, 3]) -> EncoderSpec:
        """The encoder that a method trains where one of these is asked for, mostly that itself."""
        name = self.methods.get(method, {}).get("method", method)
        asked = EncoderSpec(name=encoder, dims=dims, options=self.encoders[encoder])
        return method_class(name).encoder_for(asked)

    def finetuning(self, task: TaskSettings, encoder: str, seed: int) -> FinetuneConfig:
        """The configuration of one fine-tuning, the same from scratch and from an encoder."""
        change: dict[str, Any] = {"seed": seed, "label_seed": seed, "report": ("test",)}
        change |= {"encoder": encoder, "encoder_options": self.encoders[encoder]}
        for name in ("patch_size", "spacing"):
            if getattr(task.finetune, name) is None:
                change[name] = self.pretrain.get(name)
        return task.finetune.model_copy(update=change)


class Study(StrictModel):
    """A comparison. ``method`` and ``tasks`` select, by name; not given, all there are.

    A seed stands for a pretraining, a random network, a draw of labelled subjects, and the order
    and augmentation of their crops; it is shared by all methods, which makes them pairs.
    """

    method: Names = None
    tasks: Names = None
    seeds: int = Field(3, ge=2)
    data: dict[str, DataSet]

    def methods(self) -> list[str]:
        """The methods to compare.

        Raises:
            MedsslError: METHOD_UNKNOWN.
        """
        chosen = sorted(METHODS) if self.method is None else self.method
        arms = {
            name
            for data in self.data.values()
            for name, own in data.methods.items()
            if "method" in own
        }
        for name in chosen:
            if name not in arms:
                method_class(name)
        return list(chosen)

    def tasks_of(self, name: str) -> dict[str, TaskSettings]:
        """The selected tasks of a data set."""
        wanted = self._wanted()
        return {task: s for task, s in self.data[name].tasks.items() if task in wanted}

    def selected(self) -> dict[str, DataSet]:
        """The data sets that have a selected task."""
        return {name: data for name, data in self.data.items() if self.tasks_of(name)}

    def fixed(self) -> str:
        """What a folder's runs must share, as text: all but the selection, which may grow.

        What changes for one method alone is compared run by run.
        """
        per_method = {name: {"methods"} for name in self.data}
        without: Any = {"method": True, "tasks": True, "seeds": True, "data": per_method}
        return self.model_dump_json(indent=2, exclude=without)

    def _wanted(self) -> Sequence[str]:
        known = [task for data in self.data.values() for task in data.tasks]
        for task in self.tasks or []:
            if task not in known:
                raise MedsslError(
                    "CONFIG_INVALID",
                    f"There is no task {task}",
                    where="tasks",
                    fix=f"There are: {', '.join(known)}.",
                )
        return known if self.tasks is None else self.tasks
