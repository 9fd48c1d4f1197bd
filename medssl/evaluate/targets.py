"""What the store's labels say: classes of whole volumes, or label maps."""

from __future__ import annotations

from medssl.errors import MedsslError
from medssl.store import Store
from medssl.store.records import LABEL_PREFIX


def segmentation_volumes(store: Store) -> list[str]:
    """Volumes with a label map.

    Raises:
        MedsslError: LABEL_MISSING.
    """
    table = store.manifest
    found: list[str] = table[table["label_array"] != ""]["volume_id"].tolist()
    if not found or not store.info.label_names:
        raise MedsslError(
            "LABEL_MISSING", "The store has no label maps", fix="Ingest images with labels."
        )
    return found


def class_targets(store: Store, label: str | None) -> tuple[str, list[str], dict[str, int]]:
    """The label's name, its classes in order, and the class of each volume that has one.

    Raises:
        MedsslError: LABEL_MISSING where the name is unknown, or not given and not unique, or the
            label has a single class.
    """
    names = store.label_columns()
    if label is None and len(names) == 1:
        label = names[0]
    if label is None or label not in names:
        raise MedsslError(
            "LABEL_MISSING",
            "The store has no such label" if label else "State which label to learn",
            where=label or "--label",
            fix=f"Its labels are: {', '.join(names) or 'none'}.",
        )
    column = store.manifest.set_index("volume_id")[LABEL_PREFIX + label].dropna()
    column = column[column.astype(str) != ""]
    classes = sorted(column.unique().tolist())
    if len(classes) < 2:
        raise MedsslError("LABEL_MISSING", "The label has fewer than two classes", where=label)
    order = {value: i for i, value in enumerate(classes)}
    targets = {str(volume_id): order[value] for volume_id, value in column.items()}
    return label, [_text(value) for value in classes], targets


def _text(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
