"""What a fine-tuning learns: which volumes, and what of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from medssl.evaluate.targets import annotated_values, class_targets, segmentation_volumes
from medssl.finetune.config import FinetuneConfig, Kind
from medssl.finetune.labels import LabelledVolumes, known_classes, labelled_volumes
from medssl.store import Store


@dataclass(frozen=True)
class Problem:
    """What is learned: the volumes by role, and the classes.

    ``targets``: the class of each volume, or which row of ``known`` is a training volume's;
    ``annotated``: the label values that each volume was annotated for.
    """

    kind: Kind
    volumes: LabelledVolumes
    label_names: dict[int, str]
    classes: list[str]
    targets: dict[str, int]
    annotated: dict[str, frozenset[int]] = field(default_factory=dict)
    known: list[list[bool]] = field(default_factory=list)

    @property
    def outputs(self) -> int:
        """Channels of the model's output, the background's included."""
        return max(self.label_names) + 1 if self.kind == "segmentation" else len(self.classes)


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
    _, classes, targets = class_targets(store, label)
    volumes = labelled_volumes(store, list(targets), labels, config, split, targets)
    return Problem(kind, volumes, {}, classes, targets)
