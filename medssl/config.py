"""YAML files and ``key=value`` overrides become pydantic models; unknown keys are errors."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from medssl.errors import MedsslError


class StrictModel(BaseModel):
    """A frozen model that refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


M = TypeVar("M", bound=BaseModel)


def load(
    model: type[M],
    file: Path | None = None,
    overrides: Sequence[str] = (),
    values: Mapping[str, Any] | None = None,
) -> M:
    """Build a configuration: the file's values, then ``values``, then the overrides.

    Args:
        model: the pydantic class.
        file: a YAML file, or None for the defaults.
        overrides: ``key=value`` texts; dots reach into nested models; values are YAML.
        values: values that come from command-line options.

    Raises:
        MedsslError: CONFIG_UNREADABLE, CONFIG_UNKNOWN_KEY (names the nearest key),
            CONFIG_INVALID.
    """
    data: dict[str, Any] = _read(file) if file is not None else {}
    data.update(values or {})
    for text in overrides:
        _override(data, text)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise _explain(model, error) from None


def _read(file: Path) -> dict[str, Any]:
    import yaml  # here, for most that has models reads no YAML

    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        raise MedsslError(
            "CONFIG_UNREADABLE",
            "The configuration file could not be read",
            where=file.name,
            fix="Give the path of a YAML file, such as one of configs/.",
        ) from None
    if not isinstance(data or {}, dict):
        raise MedsslError("CONFIG_UNREADABLE", "The file is not a mapping", where=file.name)
    return dict(data or {})


def _override(data: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise MedsslError("CONFIG_INVALID", "An override must read key=value", where=text)
    *parents, last = key.split(".")
    for parent in parents:
        child = data.setdefault(parent, {})
        if not isinstance(child, dict):
            raise MedsslError("CONFIG_INVALID", f"{parent} holds no keys of its own", where=key)
        data = child
    import yaml

    try:
        data[last] = yaml.safe_load(value)
    except yaml.YAMLError:
        raise MedsslError("CONFIG_INVALID", "The value is not valid YAML", where=key) from None


def _explain(model: type[BaseModel], error: ValidationError) -> MedsslError:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = sorted(_keys(model))
        near = difflib.get_close_matches(where, known, n=1, cutoff=0.0)
        advice = f"Did you mean {near[0]}?" if near else "It has no keys."
        return MedsslError(
            "CONFIG_UNKNOWN_KEY", f"There is no key {where}", where=where, fix=advice
        )
    return MedsslError("CONFIG_INVALID", first["msg"], where=where)


def _keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    keys = []
    for name, field in model.model_fields.items():
        keys.append(prefix + name)
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            keys += _keys(kind, f"{prefix}{name}.")
    return keys
