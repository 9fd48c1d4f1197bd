"""Weight transfer from a bundle, and its report: what matched, was adapted, was dropped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from medssl.errors import MedsslError


@dataclass
class TransferReport:
    """Names of tensors by what became of them, and the share of encoder values that came over.

    ``matched``: same name and shape. ``adapted``: a first layer fitted to another number of input
    channels. ``dropped``: in the bundle, not in the model or of another shape. ``fresh``: in the
    model only; these keep their random values.
    """

    matched: list[str] = field(default_factory=list)
    adapted: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)
    encoder_fraction: float = 0.0

    def summary(self) -> dict[str, float]:
        """Counts, for logs."""
        return {
            "transfer_matched": len(self.matched),
            "transfer_adapted": len(self.adapted),
            "transfer_dropped": len(self.dropped),
            "transfer_fresh": len(self.fresh),
            "transfer_encoder_fraction": self.encoder_fraction,
        }


def transfer(model: nn.Module, state: Mapping[str, Tensor], minimum: float = 0.8) -> TransferReport:
    """Copy what fits of ``state`` into ``model``.

    A kernel that differs in its input channels alone is adapted: its mean over the bundle's
    channels, scaled so that the response to equal channels is kept.

    Args:
        model: with an ``encoder``; changed in place.
        state: the bundle's weights by name.
        minimum: the least share of the encoder's values that must come over.

    Raises:
        MedsslError: TRANSFER_TOO_LITTLE; the model is then unchanged.
    """
    report, new = TransferReport(), {}
    target = model.state_dict()
    for name, value in target.items():
        source = state.get(name)
        if source is not None and source.shape == value.shape:
            new[name] = source
            report.matched.append(name)
        elif source is not None and _channels_differ(source, value):
            channels = value.shape[1]
            mean = source.mean(dim=1, keepdim=True) * (source.shape[1] / channels)
            new[name] = mean.expand_as(value)
            report.adapted.append(name)
        else:
            report.fresh.append(name)
    report.dropped = [name for name in state if name not in new]
    encoder = {k: v.numel() for k, v in target.items() if k.startswith("encoder.")}
    carried = sum(count for name, count in encoder.items() if name in new)
    report.encoder_fraction = carried / max(1, sum(encoder.values()))
    if report.encoder_fraction < minimum:
        first = next((n for n in report.fresh if n.startswith("encoder.")), "encoder")
        raise MedsslError(
            "TRANSFER_TOO_LITTLE",
            f"Only {report.encoder_fraction:.0%} of the encoder's values come from the bundle "
            f"({minimum:.0%} are required)",
            where=first,
            fix="Fine-tune with the bundle's own encoder and options.",
        )
    with torch.no_grad():
        model.load_state_dict({**target, **new})
    return report


def _channels_differ(source: Tensor, value: Tensor) -> bool:
    """Whether two kernels are alike but for their input channels."""
    same_rank = source.ndim == value.ndim and source.ndim > 2
    return same_rank and source.shape[0] == value.shape[0] and source.shape[2:] == value.shape[2:]
