"""What a fine-tuning learns: which volumes, and what of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from medssl.bundle import TargetSpec
from medssl.errors import MedsslError
from medssl.evaluate.targets import (
    annotated_values,
    class_targets,
    number_targets,
    segmentation_volumes,
)
from medssl.finetune.config import FinetuneConfig, Kind
from medssl.finetune.labels import LabelledVolumes, known_classes, labelled_volumes
from medssl.store import Store


@dataclass(frozen=True)
class Problem:
    """What is learned: the volumes by role, and the classes or the number.

    ``targets``: the class of each volume, or which row of ``known`` is a training volume's;
    ``annotated``: the label values that each volume was annotated for; ``values``: the number of
    each volume, in the unit of ``target``.
    """

    kind: Kind
    volumes: LabelledVolumes
    label_names: dict[int, str]
    classes: list[str]
    targets: dict[str, int]
    annotated: dict[str, frozenset[int]] = field(default_factory=dict)
    known: list[list[bool]] = field(default_factory=list)
    values: dict[str, float] = field(default_factory=dict)
    target: TargetSpec | None = None

    @property
    def outputs(self) -> int:
        """Channels of the model's output, the background's included."""
        if self.kind == "regression":
            return 1
        return max(self.label_names) + 1 if self.kind == "segmentation" else len(self.classes)

    def standardised(self, volume_ids: Sequence[str]) -> list[float]:
        """The numbers of these volumes, of mean 0 and deviation 1 over the training volumes."""
        assert self.target is not None
        return [(self.values[v] - self.target.mean) / self.target.std for v in volume_ids]


def find_problem(
    kind: Kind,
    store: Store,
    config: FinetuneConfig,
    labels: int | float | None,
    label: str | None,
    split: Mapping[str, str] | None,
) -> Problem:
    """What :func:`medssl.finetune.run.finetune` is asked for, of this store; arguments as there.

    Raises:
        MedsslError: LABEL_MISSING, LABEL_UNSTATED, LABELS_TOO_FEW, CONFIG_INVALID.
    """
    if kind == "segmentation":
        config.tolerances(store.info.label_names)  # a wrong name shows before the training
        ids = segmentation_volumes(store)
        annotated, names = annotated_values(store, ids), store.info.label_names
        volumes = labelled_volumes(store, ids, labels, config, split)
        known, sets = known_classes(annotated, volumes.train, names)
        return Problem(kind, volumes, names, [], sets, annotated, known)
    if kind == "regression":
        name, values = number_targets(store, label)
        volumes = labelled_volumes(store, list(values), labels, config, split)
        target = _target(name, [values[v] for v in volumes.train])
        return Problem(kind, volumes, {}, [], {}, values=values, target=target)
    _, classes, targets = class_targets(store, label)
    volumes = labelled_volumes(store, list(targets), labels, config, split, targets)
    return Problem(kind, volumes, {}, classes, targets)


def _target(name: str, numbers: Sequence[float]) -> TargetSpec:
    mean, std = float(np.mean(numbers)), float(np.std(numbers))
    if std <= 0:
        raise MedsslError(
            "LABELS_TOO_FEW",
            "The number is the same for all training volumes, so there is nothing to learn",
            where=name,
        )
    return TargetSpec(name=name, mean=mean, std=std)
