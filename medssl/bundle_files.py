"""What a bundle's files hold: tensors of two encoders, each stored once, and a card to read."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from importlib import metadata
from typing import TYPE_CHECKING, Any

from medssl.errors import MedsslError

if TYPE_CHECKING:
    from torch import Tensor

_MAIN, _OTHER = "encoder.", "other.encoder."


def versions() -> dict[str, str]:
    """Versions of what made the weights."""
    names = ("medssl", "torch", "monai", "numpy")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in names}}


def is_others(name: str) -> bool:
    """Whether a tensor of this name is the other encoder's."""
    return name.startswith(_OTHER)


def shared(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """What is to be stored, each of the encoders' tensors once.

    Args:
        tensors: ``encoder.*``, ``other.encoder.*`` and what there is beside, contiguous, on the
            CPU.

    Returns:
        the tensors without those of the other encoder that equal one of the main encoder's; and
        which those are: name -> the main encoder's name, both without ``encoder.``.
    """
    main = {k.removeprefix(_MAIN): _content(v) for k, v in tensors.items() if k.startswith(_MAIN)}
    named = {content: name for name, content in reversed(main.items())}
    found = {}
    for name, value in tensors.items():
        if is_others(name):
            own, content = name.removeprefix(_OTHER), _content(value)
            same = own if main.get(own) == content else named.get(content)
            if same is not None:
                found[own] = same
    kept = {k: v for k, v in tensors.items() if not is_others(k) or k[len(_OTHER) :] not in found}
    return kept, found


def others(stored: Mapping[str, Tensor], known: Mapping[str, str]) -> dict[str, Tensor]:
    """The other encoder's tensors, named as a main encoder's are.

    Args:
        stored: what :func:`shared` left.
        known: what it found.

    Raises:
        MedsslError: BUNDLE_INVALID where a shared tensor is not there.
    """
    state = {_MAIN + k.removeprefix(_OTHER): v for k, v in stored.items() if is_others(k)}
    for name, main in known.items():
        if _MAIN + main not in stored:
            raise MedsslError("BUNDLE_INVALID", "A shared tensor is missing", where=_MAIN + main)
        state[_MAIN + name] = stored[_MAIN + main]
    return state


def _content(tensor: Tensor) -> tuple[str, tuple[int, ...], bytes]:
    """What two tensors that are equal bit by bit have in common."""
    import torch

    raw = tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
    return str(tensor.dtype), tuple(tensor.shape), hashlib.sha256(raw).digest()


def card(spec: Mapping[str, Any], count: int) -> str:
    """The model card, in markdown.

    Args:
        spec: what ``bundle.json`` says.
        count: numbers in the weights.
    """
    contract, encoder = spec["contract"], spec["architecture"]["encoder"]
    target, other = spec["target"], spec["other"]
    labels = [
        *spec["label_names"].values(),
        *spec["classes"],
        *([target["name"]] if target else []),
    ]
    lines = [
        f"# A medssl {spec['kind']} bundle",
        "",
        "For research. Not a medical device.",
        "",
        f"- Encoder: {encoder['name']}, {encoder['dims']}D, {count:,} values in all",
        f"- Method: {spec['method'] or 'none'}",
        f"- Input: {_inputs(contract)}",
        *([f"- Or, by an encoder of its own: {_inputs(other['contract'])}"] if other else []),
        f"- Subjects seen: {len(spec['seen_subjects'])} (salted hashes in bundle.json)",
        f"- Labels: {', '.join(labels) or 'none'}",
        f"- Licence: {spec['licence']}",
        f"- SHA-256 of the weights: `{spec['weights_sha256']}`",
        "",
    ]
    if spec["metrics"]:
        lines += ["| metric | value |", "| --- | --- |"]
        lines += [f"| {name} | {value:.4g} |" for name, value in spec["metrics"].items()]
        lines.append("")
    return "\n".join(lines)


def _inputs(contract: Mapping[str, Any]) -> str:
    spacing = contract["spacing"]
    grid = "the input's own" if spacing is None else f"{spacing} mm"
    return (
        f"{contract['channels']} channel(s), {'/'.join(contract['modalities']) or 'any'},"
        f" spacing {grid}, orientation {contract['orientation']},"
        f" intensity {contract['intensity']['scheme']}, patch {contract['patch_size']}"
    )
