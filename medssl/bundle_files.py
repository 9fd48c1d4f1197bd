"""What a bundle's files hold: a description, tensors of two encoders, each stored once, a card."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from medssl.errors import MedsslError

if TYPE_CHECKING:
    from torch import Tensor, nn

    M = TypeVar("M", bound=nn.Module)

_MAIN, _OTHER = "encoder.", "other.encoder."


def versions() -> dict[str, str]:
    """Versions of what made the weights."""
    names = ("medssl", "torch", "monai", "numpy")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in names}}


def seen_hash(salt: str, subject_id: str) -> str:
    """Salted SHA-256 of a subject's pseudonym."""
    return hashlib.sha256(f"{salt}:{subject_id}".encode()).hexdigest()[:32]


def described(path: Path, spec: str, weights: str, version: int) -> Any:
    """What a bundle's description says, not checked but for its format.

    Args:
        path: the bundle.
        spec, weights: names of its files.
        version: of the format that is read.

    Raises:
        MedsslError: INPUT_MISSING, BUNDLE_INVALID, BUNDLE_FORMAT.
    """
    if not path.exists():
        raise MedsslError("INPUT_MISSING", "The bundle does not exist", where=path.name)
    for name in (spec, weights):
        if not (path / name).is_file():
            raise MedsslError("BUNDLE_INVALID", f"The folder has no {name}", where=path.name)
    try:
        data = json.loads((path / spec).read_text(encoding="utf-8"))
        found = data.get("format_version")
    except (ValueError, AttributeError):
        raise MedsslError("BUNDLE_INVALID", f"{spec} is damaged", where=path.name) from None
    if found != version:
        text = f"The bundle has format {found}; this medssl reads {version}"
        raise MedsslError("BUNDLE_FORMAT", text, where=path.name)
    return data


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


def filled(model: M, state: Mapping[str, Tensor]) -> M:
    """A network with its weights, in evaluation mode; what else the state holds is left out.

    Raises:
        MedsslError: BUNDLE_INVALID where weights and network differ.
    """
    wanted = model.state_dict()
    unfit = [k for k, v in wanted.items() if k not in state or state[k].shape != v.shape]
    if unfit:
        raise MedsslError(
            "BUNDLE_INVALID",
            f"{len(unfit)} tensors do not fit the stated architecture",
            where=unfit[0],
        )
    model.load_state_dict({name: state[name] for name in wanted})
    return model.eval()


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
    places = spec["architecture"]["embedding"]
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
        *(
            [f"- Embedding: {places['dim']} values of every voxel's place (`medssl locate`)"]
            if places
            else []
        ),
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
