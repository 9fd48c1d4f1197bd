"""Write docs/reference/{cli,errors,config,deidentification}.md from the code (`make docs`).

What these pages say stands in docstrings, option helps, field descriptions and the table of
errors; a test compares the pages with what this program would write.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import types
import typing
from enum import Enum
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

REFERENCE = Path(__file__).resolve().parent.parent / "docs" / "reference"
NOTE = "<!-- Written by `make docs` from the code; edit the code, not this page. -->\n"

# What each part of the configuration belongs to: (heading, module, class)
CONFIGS = (
    ("`medssl pretrain`", "medssl.training.pretrain", "PretrainConfig"),
    ("`medssl finetune`", "medssl.finetune", "FinetuneConfig"),
)


# --- errors -------------------------------------------------------------------------------------

EXITS = {
    0: "Done.",
    1: "A bug in medssl. Please report it, without patient data.",
    2: "Wrong usage or configuration.",
    3: "Done, but some inputs were rejected; each stands with its code in the ledger or status.",
    4: "Nothing usable was found.",
    5: "Out of disk or memory.",
    6: "An integrity or leakage check failed. Do not use the output.",
    7: "Stopped by a signal, with a checkpoint written. `--resume` goes on.",
}


def errors_page() -> str:
    """Every exit code, and under it every code word that leads to it."""
    from medssl.errors import CODES, Exit

    lines = [
        NOTE,
        "# Errors",
        "",
        "Every expected failure has a stable code word. It stands first in the line that medssl",
        "prints, and in the ledger of a store and the `status.json` of a results folder. The exit",
        "code of the process tells a script what kind of failure it was.",
        "",
        "| exit code | meaning |",
        "|---|---|",
    ]
    lines += [f"| {int(code)} | {EXITS[int(code)]} |" for code in Exit]
    for exit_code in Exit:
        rows = [(word, code) for word, code in CODES.items() if code.exit_code == exit_code]
        if rows:
            lines += ["", f"## Exit code {int(exit_code)}", "", "| code | meaning |", "|---|---|"]
            lines += [f"| `{word}` | {_cell(code.meaning)} |" for word, code in rows]
    return "\n".join(lines) + "\n"


# --- command line -------------------------------------------------------------------------------


def cli_page() -> str:
    """Every verb: usage, what its docstring says, arguments and options."""
    from medssl.cli import app

    root = typer.main.get_command(app)
    lines = [NOTE, "# Command line", "", "`medssl VERB --help` says the same.", ""]
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        lines += _command(f"medssl {name}", command)
    return "\n".join(lines).rstrip() + "\n"


def _command(path: str, command: Any) -> list[str]:
    children = getattr(command, "commands", {})
    lines = [f"## `{path}`", "", *_prose(command.help or ""), ""]
    for name, child in children.items():
        lines += _command(f"{path} {name}", child)
    if children:
        return lines
    positional = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and not p.hidden]
    words = [_metavar(p) if p.required else f"[{_metavar(p)}]" for p in positional]
    lines += ["```", " ".join([path, *words, "[options]"]), "```", ""]
    if positional:
        lines += ["| argument | meaning |", "|---|---|"]
        lines += [f"| `{_metavar(p)}` | {_cell(p.help or '')} |" for p in positional] + [""]
    if options:
        lines += ["| option | default | meaning |", "|---|---|---|"]
        lines += [f"| {_option(p)} | {_default(p)} | {_cell(p.help or '')} |" for p in options] + [
            ""
        ]
    return lines


def _prose(text: str) -> list[str]:
    r"""A docstring as Markdown: a paragraph that starts with \b becomes a code block."""
    lines: list[str] = []
    for paragraph in inspect.cleandoc(text).replace("``", "`").split("\n\n"):
        body = paragraph.split("\n")
        if body[0].strip() == "\b":
            lines += ["```", *(line.rstrip() for line in body[1:]), "```", ""]
        else:
            lines += [line.strip() for line in body] + [""]
    return lines[:-1]


def _metavar(param: Any) -> str:
    return str(param.metavar or param.name.upper())


def _option(param: Any) -> str:
    names = " / ".join(f"`{name}`" for name in [*param.opts, *param.secondary_opts])
    if param.is_flag:
        return names
    return f"{names} {param.metavar or _kind(param.type_descriptor.annotation)}"


def _kind(annotation: Any) -> str:
    """What an option takes, in the words of `--help`."""
    if _is_union(annotation):
        kinds = [k for k in typing.get_args(annotation) if k is not type(None)]
        return _kind(kinds[0])
    if typing.get_origin(annotation) is list:
        return _kind(typing.get_args(annotation)[0]) + "..."
    if typing.get_origin(annotation) is typing.Literal:
        return " \\| ".join(str(value) for value in typing.get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " \\| ".join(str(member.value) for member in annotation)
    words = {str: "TEXT", int: "INTEGER", float: "NUMBER", Path: "PATH"}
    return words.get(annotation, "VALUE")


def _default(param: Any) -> str:
    value = param.default
    if param.required:
        return "required"
    if value is None or value == () or value == [] or callable(value):
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"`{getattr(value, 'value', value)}`"


# --- configuration ------------------------------------------------------------------------------


def config_page() -> str:
    """Every key of the configurations, with its type, default and meaning."""
    from medssl.methods import METHODS

    lines = [
        NOTE,
        "# Configuration",
        "",
        "A configuration is a YAML file (`--config FILE`), then `key=value` overrides on the",
        "command line; dots reach into nested keys, and values are YAML. An unknown key is an",
        "error that names the nearest valid one. `configs/` holds presets to copy.",
        "",
    ]
    nested: dict[str, type[BaseModel]] = {}
    for heading, module, name in CONFIGS:
        model = getattr(importlib.import_module(module), name)
        lines += [f"## {heading}", "", *_model(model, nested)]
    for name, method in METHODS.items():
        lines += [f"## `options` of the method `{name}`", "", *_model(method.Config, nested)]
    lines += _encoders()
    lines += ["## Nested keys", ""]
    for keys, model in _by_model(nested).items():
        lines += [f"**{keys}.**", *_prose(model.__doc__ or ""), ""]
    return "\n".join(lines).rstrip() + "\n"


def _encoders() -> list[str]:
    """The options of every encoder, from the signature and the docstring of its class."""
    from medssl.networks import ENCODERS

    lines = ["## `encoder_options` of the encoders", ""]
    lines += ["What each is good for: [encoders](../explanation/encoders.md).", ""]
    for name, encoder in ENCODERS.items():
        about, _, arguments = inspect.cleandoc(encoder.__doc__ or "").partition("Args:\n")
        lines += [f"### `encoder: {name}`", "", *_prose(about.strip()), ""]
        lines += ["| option | default | meaning |", "|---|---|---|"]
        meanings = dict(re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", arguments, re.MULTILINE))
        for option, parameter in inspect.signature(encoder).parameters.items():
            if option not in ("dims", "in_channels"):
                default = _json(parameter.default)
                lines.append(f"| `{option}` | {default} | {_cell(meanings[option])} |")
        lines.append("")
    return lines


def _by_model(nested: dict[str, type[BaseModel]]) -> dict[str, type[BaseModel]]:
    """The keys that hold a model, joined where they hold the same one."""
    joined: dict[type[BaseModel], list[str]] = {}
    for key, model in nested.items():
        joined.setdefault(model, []).append(f"`{key}`")
    return {", ".join(sorted(keys)): model for model, keys in joined.items()}


def _model(model: type[BaseModel], nested: dict[str, type[BaseModel]]) -> list[str]:
    rows = _rows(model, nested)
    head = ["| key | type | default | meaning |", "|---|---|---|---|"]
    return [*_prose(model.__doc__ or ""), "", *head, *rows, ""]


def _rows(
    model: type[BaseModel],
    nested: dict[str, type[BaseModel]],
    prefix: str = "",
    given: BaseModel | None = None,
) -> list[str]:
    """A row per key; `given` holds the defaults of a nested model where its parent states them."""
    rows = []
    for name, field in model.model_fields.items():
        default = getattr(given, name) if given is not None else field.get_default()
        if field.default_factory is not None and given is None:
            default = field.get_default(call_default_factory=True)
        about = _cell(field.description or "")
        inner = _nested(field.annotation)
        if inner is None:
            kind = ", ".join([_type(field.annotation), *_limits(field.metadata)])
            rows.append(f"| `{prefix}{name}` | {kind} | {_json(default)} | {about} |")
            continue
        nested[name] = inner
        kind = "keys or null" if _is_union(field.annotation) else "keys"
        rows.append(f"| `{prefix}{name}` | {kind} | {_whole(default)} | {about or 'see below'} |")
        known = default if isinstance(default, BaseModel) else None
        rows += _rows(inner, nested, f"{prefix}{name}.", known)
    return rows


def _limits(metadata: list[Any]) -> list[str]:
    signs = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    return [
        f"{word} {getattr(item, sign)}"
        for item in metadata
        for sign, word in signs.items()
        if getattr(item, sign, None) is not None
    ]


def _whole(default: Any) -> str:
    return "`null`" if default is None else ""


def _nested(annotation: Any) -> type[BaseModel] | None:
    """The model that a field holds, also behind `| None`."""
    kinds = typing.get_args(annotation) if _is_union(annotation) else (annotation,)
    for kind in kinds:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def _type(annotation: Any) -> str:
    if typing.get_origin(annotation) is typing.Literal:
        return " \\| ".join(f"`{value}`" for value in typing.get_args(annotation))
    if _is_union(annotation):
        kinds = [k for k in typing.get_args(annotation) if k is not type(None)]
        none = ["null"] if type(None) in typing.get_args(annotation) else []
        return " or ".join([*(_type(kind) for kind in kinds), *none])
    if typing.get_args(annotation):
        return _cell(str(annotation).replace("typing.", ""))
    return _cell(getattr(annotation, "__name__", str(annotation)))


def _json(value: Any) -> str:
    if value is PydanticUndefined:
        return "required"
    try:
        return f"`{json.dumps(value)}`"
    except TypeError:
        return f"`{value}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


# --- de-identification --------------------------------------------------------------------------


def deidentification_page() -> str:
    """The options of PS3.15 that are applied, and what becomes of each attribute."""
    from medssl.ingest.profile import tables

    lines = [
        NOTE,
        "# De-identification of DICOM",
        "",
        "By the Basic Application Level Confidentiality Profile of DICOM PS3.15 Annex E with these",
        "options. `store.json` records, under `deidentification`, what Patient Identity Removed",
        "(0012,0062), De-identification Method (0012,0063), its Code Sequence (0012,0064) and",
        "Longitudinal Temporal Information Modified (0028,0303) would say. Every attribute that is",
        "not in the last table is removed unread. See also [privacy](../explanation/privacy.md).",
        "",
        *tables(),
    ]
    return "\n".join(lines) + "\n"


# ------------------------------------------------------------------------------------------------


def pages() -> dict[str, str]:
    """File name -> text of each generated page."""
    return {
        "cli.md": cli_page(),
        "errors.md": errors_page(),
        "config.md": config_page(),
        "deidentification.md": deidentification_page(),
    }


if __name__ == "__main__":
    for file_name, page in pages().items():
        (REFERENCE / file_name).write_text(page, encoding="utf-8")
        print(f"docs/reference/{file_name}")
