"""A bundle's README: what the model is, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def card(spec: Mapping[str, Any], count: int) -> str:
    """The model card of ``bundle.json``, as a mapping, whose weights are ``count`` values."""
    contract, encoder = spec["contract"], spec["architecture"]["encoder"]
    labels = [
        *spec["label_names"].values(),
        *spec["classes"],
        *([spec["target"]["name"]] if spec["target"] else []),
    ]
    spacing = "the input's own" if contract["spacing"] is None else f"{contract['spacing']} mm"
    lines = [
        f"# A medssl {spec['kind']} bundle",
        "",
        "For research. Not a medical device.",
        "",
        f"- Encoder: {encoder['name']}, {encoder['dims']}D, {count:,} values in all",
        f"- Method: {spec['method'] or 'none'}",
        f"- Input: {contract['channels']} channel(s), {'/'.join(contract['modalities']) or 'any'},"
        f" spacing {spacing}, orientation {contract['orientation']},"
        f" intensity {contract['intensity']['scheme']}, patch {contract['patch_size']}",
        f"- Subjects seen: {len(spec['seen_subjects'])} (salted hashes in bundle.json)",
        f"- Labels: {', '.join(labels) or 'none'}",
        f"- Licence: {spec['licence']}",
        f"- SHA-256 of the weights: `{spec['weights_sha256']}`",
        "",
    ]
    if places := spec["architecture"].get("embedding"):
        text = f"- Embedding: {places['dim']} values of every voxel's place (`medssl locate`)"
        lines.insert(5, text)
    if spec["metrics"]:
        lines += ["| metric | value |", "| --- | --- |"]
        lines += [f"| {name} | {value:.4g} |" for name, value in spec["metrics"].items()]
        lines.append("")
    return "\n".join(lines)
